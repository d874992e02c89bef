//! `GetObjectAttributes`: chosen facts about an object in one document.

use http::{Response, header};

use super::door::Services;
use super::error::{Code, S3Error};
use super::read::part_number;
use super::request::Request;
use super::respond;
use super::xml::Writer;
use crate::http::{Body, conditional};
use crate::objects::{BucketName, PartNumber, Target};

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
    parts_after: Option<PartNumber>,
    parts_max: usize,
}

/// Most parts of one answer, and how many when nobody says.
const PARTS_MAX: usize = 1000;

impl GetObjectAttributes {
    /// Reads the parameters.
    ///
    /// # Errors
    /// `x-amz-object-attributes` is missing or names something unknown; a malformed number.
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
        let marker = request.field("x-amz-part-number-marker").filter(|text| !matches!(*text, "" | "0"));
        let parts_max = request.field("x-amz-max-parts").filter(|text| !text.is_empty()).map(|text| {
            let invalid = |_no_number| S3Error::new(Code::InvalidArgument, "x-amz-max-parts is no number of parts");
            text.parse::<u32>().map(|most| (most as usize).min(PARTS_MAX)).map_err(invalid)
        });
        Ok(Self {
            bucket,
            target,
            chosen,
            parts_after: marker.map(part_number).transpose()?,
            parts_max: parts_max.transpose()?.unwrap_or(PARTS_MAX),
        })
    }

    /// Answers.
    ///
    /// # Errors
    /// The object does not exist; storage fails.
    pub async fn run(self, services: &Services) -> Result<Response<Body>, S3Error> {
        let chosen = |attribute| self.chosen.contains(&attribute);
        let objects = &services.objects;
        let (info, parts, more) = if chosen(Attribute::ObjectParts) {
            objects.object_parts(&self.bucket, &self.target, self.parts_after, self.parts_max).await?
        } else {
            (objects.head_version(&self.bucket, &self.target).await?, Vec::new(), false)
        };
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
            // The SDKs' `TotalPartsCount` travels under this name.
            xml.start("ObjectParts").leaf("PartsCount", info.etag.parts);
            xml.leaf("PartNumberMarker", self.parts_after.map_or(0, PartNumber::value));
            xml.maybe("NextPartNumberMarker", parts.last().filter(|_| more).map(|part| part.number));
            xml.leaf("MaxParts", self.parts_max).leaf("IsTruncated", more);
            for part in &parts {
                xml.start("Part").leaf("PartNumber", part.number).leaf("Size", part.size);
                respond::write_checksum(&mut xml, part.checksum.as_ref());
                xml.end();
            }
            xml.end();
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
