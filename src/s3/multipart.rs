//! Multipart uploads: start, store parts, list, join, give up.

use http::{HeaderName, Response, StatusCode};

use super::buckets::write_owner;
use super::checksum::Algorithm;
use super::composite::{self, PartSum};
use super::door::Services;
use super::error::{Code, S3Error};
use super::lifecycle;
use super::listing::Encoding;
use super::payload::SealedBody;
use super::read::part_number;
use super::request::Request;
use super::respond;
use super::write;
use super::xml::{Element, Writer};
use crate::http::Body;
use crate::objects::{
    BucketName, Checksum, Condition, Metadata, ObjectKey, PartChoice, PartInfo, PartNumber, PutExpect, UploadId,
    UploadQuery,
};

/// Most parts of an upload, and entries on a page.
const PARTS_MAX: usize = 10_000;
const PAGE_MAX: usize = 1000;

/// Which upload a request is about.
#[derive(Debug)]
struct Target {
    bucket: BucketName,
    key: ObjectKey,
    upload: UploadId,
}

impl Target {
    fn parse(request: &Request) -> Result<Self, S3Error> {
        let (bucket, key) = request.object()?;
        Ok(Self { bucket, key, upload: request.query.get("uploadId").unwrap_or_default().parse()? })
    }
}

/// `CreateMultipartUpload`.
#[derive(Debug)]
pub struct CreateMultipartUpload {
    bucket: BucketName,
    key: ObjectKey,
    metadata: Metadata,
    algorithm: Option<Algorithm>,
}

impl CreateMultipartUpload {
    /// Reads the parameters.
    ///
    /// # Errors
    /// Metadata or a checksum algorithm that are none.
    pub fn parse(request: &Request) -> Result<Self, S3Error> {
        let (bucket, key) = request.object()?;
        let algorithm = match request.field("x-amz-checksum-algorithm") {
            None => None,
            Some(name) => Some(Algorithm::named(name).ok_or_else(|| {
                S3Error::new(Code::InvalidRequest, format!("checksum algorithm {name} is not supported"))
            })?),
        };
        Ok(Self { bucket, key, metadata: write::metadata(request)?, algorithm })
    }

    /// Starts the upload.
    ///
    /// # Errors
    /// The bucket does not exist; storage fails.
    pub async fn run(self, services: &Services) -> Result<Response<Body>, S3Error> {
        let upload = services.objects.create_upload(&self.bucket, &self.key, self.metadata).await?;
        let mut xml = Writer::new("InitiateMultipartUploadResult");
        xml.leaf("Bucket", &self.bucket).leaf("Key", &self.key).leaf("UploadId", upload);
        let mut response = respond::document(xml);
        if let Some(algorithm) = self.algorithm {
            let name = HeaderName::from_static("x-amz-checksum-algorithm");
            respond::set(response.headers_mut(), name, algorithm.name());
        }
        Ok(response)
    }
}

/// `UploadPart`.
#[derive(Debug)]
pub struct UploadPart {
    target: Target,
    number: PartNumber,
}

impl UploadPart {
    /// Reads the parameters.
    ///
    /// # Errors
    /// A malformed part number or upload id.
    pub fn parse(request: &Request) -> Result<Self, S3Error> {
        let number = part_number(request.query.get("partNumber").unwrap_or_default())?;
        Ok(Self { target: Target::parse(request)?, number })
    }

    /// Stores the part.
    ///
    /// # Errors
    /// The upload does not exist, the body is not what was announced or signed, storage fails: a part stored before
    /// under this number stays.
    pub async fn run(
        self,
        services: &Services,
        request: &Request,
        body: SealedBody,
    ) -> Result<Response<Body>, S3Error> {
        let Target { bucket, key, upload } = &self.target;
        let sent = body.open(request)?;
        let expect = PutExpect {
            length: Some(sent.length),
            md5: sent.md5,
            late_checksum: sent.late_checksum,
            condition: Condition::Any,
        };
        let objects = &services.objects;
        let part = objects.put_part(bucket, key, *upload, self.number, expect, sent.checksum, sent.body).await?;
        let mut response = respond::empty(StatusCode::OK);
        respond::set_etag(response.headers_mut(), &part.etag);
        respond::set_checksum(response.headers_mut(), part.checksum.as_ref());
        Ok(response)
    }
}

/// `CompleteMultipartUpload`.
#[derive(Debug)]
pub struct CompleteMultipartUpload {
    target: Target,
    pub(super) condition: Condition,
}

impl CompleteMultipartUpload {
    /// Reads the parameters.
    ///
    /// # Errors
    /// A malformed upload id or condition.
    pub fn parse(request: &Request) -> Result<Self, S3Error> {
        Ok(Self { target: Target::parse(request)?, condition: write::condition(request)? })
    }

    /// Joins the parts the document names.
    ///
    /// # Errors
    /// The document is malformed, a part is missing, out of order or too small, a checksum or condition does not hold,
    /// storage fails: the upload goes on as it was.
    pub async fn run(
        self,
        services: &Services,
        request: &Request,
        body: SealedBody,
    ) -> Result<Response<Body>, S3Error> {
        // In this request x-amz-checksum-* speaks of the object to be, not of the document.
        let document = body.document_of_object(request, "CompleteMultipartUpload").await?.ok_or(Code::MalformedXML)?;
        let named = document.all("Part").map(NamedPart::parse).collect::<Result<Vec<_>, _>>()?;
        if named.is_empty() || named.len() > PARTS_MAX {
            return Err(Code::MalformedXML.into());
        }
        let checksum = self.checksum(services, request, &named).await?;
        let Target { bucket, key, upload } = &self.target;
        let chosen = named.iter().map(|part| part.choice).collect();
        let objects = &services.objects;
        let info = objects.complete_upload(bucket, key, *upload, chosen, checksum, self.condition).await?;
        let mut xml = Writer::new("CompleteMultipartUploadResult");
        xml.leaf("Location", request.location(bucket, key)).leaf("Bucket", bucket).leaf("Key", key);
        xml.leaf("ETag", format_args!("\"{}\"", info.etag));
        respond::write_checksum(&mut xml, info.metadata.checksum.as_ref());
        xml.maybe("ChecksumType", info.metadata.checksum.as_ref().map(respond::checksum_type));
        let mut response = respond::document(xml);
        respond::set_version(response.headers_mut(), &info);
        lifecycle::describe(response.headers_mut(), services, bucket, key.as_str(), &info).await?;
        Ok(response)
    }

    /// The object's checksum from its parts', when each has one; held against what the client says of either.
    async fn checksum(
        &self,
        services: &Services,
        request: &Request,
        named: &[NamedPart],
    ) -> Result<Option<Checksum>, S3Error> {
        let announced = Algorithm::all().find_map(|algorithm| Some((algorithm, request.field(algorithm.header())?)));
        let stored = self.stored(services).await?;
        let mut sums = Vec::with_capacity(named.len());
        for part in named {
            let number = part.choice.number;
            let at = stored.binary_search_by_key(&number, |stored| stored.number);
            // A missing part, or another tag: completion itself says which.
            let Some(stored) = at.ok().and_then(|at| stored.get(at)) else { return Ok(None) };
            let checksum = stored.checksum.as_ref();
            if let Some((algorithm, value)) = &part.checksum
                && checksum.is_some_and(|known| known.algorithm == algorithm.name() && known.value != *value)
            {
                return Err(S3Error::new(Code::InvalidPart, format!("part {number} has another {}", algorithm.name())));
            }
            sums.push(PartSum { checksum, bytes: stored.size });
        }
        let whole = request.field("x-amz-checksum-type").is_some_and(|kind| kind.eq_ignore_ascii_case("FULL_OBJECT"));
        let joined = composite::join(&sums, whole);
        match (announced, &joined) {
            (Some((algorithm, value)), Some(joined))
                if joined.algorithm == algorithm.name() && joined.value != value =>
            {
                Err(S3Error::new(Code::BadDigest, format!("the object has another {}", algorithm.name())))
            }
            _ => Ok(joined),
        }
    }

    /// Every part stored so far, in ascending order.
    async fn stored(&self, services: &Services) -> Result<Vec<PartInfo>, S3Error> {
        let Target { bucket, key, upload } = &self.target;
        let mut parts = Vec::new();
        let mut after = None;
        loop {
            let page = match services.objects.list_parts(bucket, key, *upload, after, PAGE_MAX).await {
                Ok(page) => page,
                // Completed before: the answer is completion's, which knows.
                Err(crate::objects::ObjectError::NoSuchUpload) => return Ok(parts),
                Err(error) => return Err(error.into()),
            };
            parts.extend(page.parts);
            match page.next {
                Some(next) if parts.len() < PARTS_MAX => after = Some(next),
                _ => return Ok(parts),
            }
        }
    }
}

/// A part as the document names it.
struct NamedPart {
    choice: PartChoice,
    checksum: Option<(Algorithm, String)>,
}

impl NamedPart {
    fn parse(element: &Element) -> Result<Self, S3Error> {
        let number = part_number(element.word_of("PartNumber").ok_or(Code::MalformedXML)?)?;
        let etag = element.word_of("ETag").ok_or(Code::MalformedXML)?.parse().or(Err(Code::InvalidPart))?;
        let checksum = Algorithm::all()
            .find_map(|algorithm| element.word_of(algorithm.element()).map(|value| (algorithm, value.to_owned())));
        Ok(Self { choice: PartChoice { number, etag }, checksum })
    }
}

/// `AbortMultipartUpload`.
#[derive(Debug)]
pub struct AbortMultipartUpload(Target);

impl AbortMultipartUpload {
    /// Reads the parameters.
    ///
    /// # Errors
    /// A malformed upload id.
    pub fn parse(request: &Request) -> Result<Self, S3Error> {
        Target::parse(request).map(Self)
    }

    /// Gives the upload up.
    ///
    /// # Errors
    /// The upload does not exist; storage fails.
    pub async fn run(self, services: &Services) -> Result<Response<Body>, S3Error> {
        let Target { bucket, key, upload } = &self.0;
        services.objects.abort_upload(bucket, key, *upload).await?;
        Ok(respond::empty(StatusCode::NO_CONTENT))
    }
}

/// `ListParts`.
#[derive(Debug)]
pub struct ListParts {
    target: Target,
    after: Option<PartNumber>,
    max: usize,
}

impl ListParts {
    /// Reads the parameters.
    ///
    /// # Errors
    /// A malformed number or upload id.
    pub fn parse(request: &Request) -> Result<Self, S3Error> {
        let marker = request.query.get("part-number-marker").filter(|text| !matches!(*text, "" | "0"));
        Ok(Self {
            target: Target::parse(request)?,
            after: marker.map(part_number).transpose()?,
            max: request.count("max-parts", PAGE_MAX, PAGE_MAX)?,
        })
    }

    /// Lists a page.
    ///
    /// # Errors
    /// The upload does not exist; storage fails.
    pub async fn run(self, services: &Services) -> Result<Response<Body>, S3Error> {
        let Target { bucket, key, upload } = &self.target;
        let page = services.objects.list_parts(bucket, key, *upload, self.after, self.max).await?;
        let mut xml = Writer::new("ListPartsResult");
        xml.leaf("Bucket", bucket).leaf("Key", key).leaf("UploadId", upload);
        write_owner(&mut xml, "Initiator");
        write_owner(&mut xml, "Owner");
        xml.leaf("StorageClass", "STANDARD");
        xml.leaf("PartNumberMarker", self.after.map_or(0, PartNumber::value));
        xml.maybe("NextPartNumberMarker", page.next);
        xml.leaf("MaxParts", self.max).leaf("IsTruncated", page.next.is_some());
        for part in &page.parts {
            xml.start("Part").leaf("PartNumber", part.number).leaf("LastModified", part.modified);
            xml.leaf("ETag", format_args!("\"{}\"", part.etag)).leaf("Size", part.size);
            respond::write_checksum(&mut xml, part.checksum.as_ref());
            xml.end();
        }
        Ok(respond::document(xml))
    }
}

/// `ListMultipartUploads`.
#[derive(Debug)]
pub struct ListMultipartUploads {
    bucket: BucketName,
    query: UploadQuery,
    encoding: Encoding,
}

impl ListMultipartUploads {
    /// Reads the parameters.
    ///
    /// # Errors
    /// A malformed number, marker or encoding.
    pub fn parse(request: &Request) -> Result<Self, S3Error> {
        let text = |name| request.query.get(name).filter(|text| !text.is_empty()).map(str::to_owned);
        let query = UploadQuery {
            prefix: text("prefix").unwrap_or_default(),
            delimiter: text("delimiter"),
            after_key: text("key-marker"),
            after_upload: text("upload-id-marker").map(|id| id.parse()).transpose()?,
            max_uploads: request.count("max-uploads", PAGE_MAX, PAGE_MAX)?,
        };
        Ok(Self { bucket: request.bucket()?, query, encoding: Encoding::parse(request)? })
    }

    /// Lists a page.
    ///
    /// # Errors
    /// The bucket does not exist; storage fails.
    pub async fn run(self, services: &Services) -> Result<Response<Body>, S3Error> {
        let page = services.objects.list_uploads(&self.bucket, self.query.clone()).await?;
        let encode = |text: &str| self.encoding.write(text).into_owned();
        let mut xml = Writer::new("ListMultipartUploadsResult");
        xml.leaf("Bucket", &self.bucket);
        xml.leaf("KeyMarker", encode(self.query.after_key.as_deref().unwrap_or_default()));
        xml.leaf("UploadIdMarker", self.query.after_upload.map(|id| id.to_string()).unwrap_or_default());
        if let Some((key, upload)) = &page.next {
            xml.leaf("NextKeyMarker", encode(key)).maybe("NextUploadIdMarker", upload.as_ref());
        }
        xml.leaf("Prefix", encode(&self.query.prefix));
        xml.maybe("Delimiter", self.query.delimiter.as_deref().map(encode));
        xml.maybe("EncodingType", self.encoding.name());
        xml.leaf("MaxUploads", self.query.max_uploads).leaf("IsTruncated", page.next.is_some());
        for upload in &page.uploads {
            xml.start("Upload").leaf("Key", encode(&upload.key)).leaf("UploadId", upload.upload);
            write_owner(&mut xml, "Initiator");
            write_owner(&mut xml, "Owner");
            xml.leaf("StorageClass", "STANDARD").leaf("Initiated", upload.initiated).end();
        }
        for prefix in &page.common_prefixes {
            xml.start("CommonPrefixes").leaf("Prefix", encode(prefix)).end();
        }
        Ok(respond::document(xml))
    }
}
