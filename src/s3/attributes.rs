//! `GetObjectAttributes`: chosen facts about an object in one document.

use http::{Response, header};

use super::door::Services;
use super::error::{Code, S3Error};
use super::request::Request;
use super::respond;
use super::xml::Writer;
use crate::http::{Body, conditional};
use crate::objects::{BucketName, Target};

/// A fact a client may choose, in the order of the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Attribute {
    Etag,
    Checksum,
    ObjectParts,
    StorageClass,
    ObjectSize,
}

/// `GetObjectAttributes`.
#[derive(Debug)]
pub struct GetObjectAttributes {
    bucket: BucketName,
    target: Target,
    chosen: Vec<Attribute>,
}

impl GetObjectAttributes {
    /// Reads the parameters.
    ///
    /// # Errors
    /// `x-amz-object-attributes` is missing or names something unknown.
    pub fn parse(request: &Request) -> Result<Self, S3Error> {
        let (bucket, target) = request.target()?;
        let names = request.field("x-amz-object-attributes").unwrap_or_default().split(',').map(str::trim);
        let chosen = names
            .map(|name| match name {
                "ETag" => Some(Attribute::Etag),
                "Checksum" => Some(Attribute::Checksum),
                "ObjectParts" => Some(Attribute::ObjectParts),
                "StorageClass" => Some(Attribute::StorageClass),
                "ObjectSize" => Some(Attribute::ObjectSize),
                _ => None,
            })
            .collect::<Option<_>>()
            .ok_or_else(|| S3Error::new(Code::InvalidArgument, "x-amz-object-attributes names an unknown attribute"))?;
        Ok(Self { bucket, target, chosen })
    }

    /// Answers.
    ///
    /// # Errors
    /// The object does not exist; storage fails.
    pub async fn run(self, services: &Services) -> Result<Response<Body>, S3Error> {
        let info = services.objects.head_version(&self.bucket, &self.target).await?;
        let chosen = |attribute| self.chosen.contains(&attribute);
        let mut xml = Writer::new("GetObjectAttributesResponse");
        if chosen(Attribute::Etag) {
            xml.leaf("ETag", info.etag);
        }
        if let Some(checksum) = info.metadata.checksum.as_ref().filter(|_| chosen(Attribute::Checksum)) {
            xml.start("Checksum");
            respond::write_checksum(&mut xml, Some(checksum));
            xml.leaf("ChecksumType", respond::checksum_type(checksum)).end();
        }
        if chosen(Attribute::ObjectParts) && info.etag.parts > 0 {
            xml.start("ObjectParts").leaf("TotalPartsCount", info.etag.parts).end();
        }
        if chosen(Attribute::StorageClass) {
            xml.leaf("StorageClass", "STANDARD");
        }
        if chosen(Attribute::ObjectSize) {
            xml.leaf("ObjectSize", info.size);
        }
        let mut response = respond::document(xml);
        respond::set_version(response.headers_mut(), &info);
        respond::set(response.headers_mut(), header::LAST_MODIFIED, &conditional::format_date(info.modified));
        Ok(response)
    }
}
