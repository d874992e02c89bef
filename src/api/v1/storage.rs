//! Buckets and objects. Bytes go through S3: an address to get or put them at comes from `presign`.

use std::time::Duration;

use axum::http::{Method, StatusCode, Uri};
use serde::Deserialize;
use serde_json::{Value, json};

use super::V1;
use super::credentials::given;
use super::problem::Problem;
use super::route::{Call, Reply, page};
use crate::accounts::Scopes;
use crate::base::Timestamp;
use crate::http::sigv4::{Grant, PathRule, Policy, Signer, presign as sign};
use crate::http::uri;
use crate::objects::{
    BackendName, BucketDetail, BucketName, BucketSet, Condition, Extension, ListQuery, MediaRange, MoveStatus,
    ObjectError, ObjectKey, Versioning,
};

/// How long an address works when nobody says.
const EXPIRES_SECONDS: u64 = 900;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewBucket {
    name: String,
    #[serde(default)]
    backend: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewMove {
    backend: String,
}

/// What is absent stays; null is no limit.
#[expect(clippy::option_option, reason = "absent, null and a value are three things")]
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BucketChange {
    #[serde(default, deserialize_with = "given")]
    quota_bytes: Option<Option<u64>>,
    #[serde(default, deserialize_with = "given")]
    quota_objects: Option<Option<u64>>,
    #[serde(default, deserialize_with = "given")]
    max_file_bytes: Option<Option<u64>>,
    #[serde(default)]
    allowed_types: Option<Vec<MediaRange>>,
    #[serde(default)]
    allowed_extensions: Option<Vec<Extension>>,
    #[serde(default)]
    serve_as_download: Option<bool>,
}

impl BucketChange {
    fn wanted(self) -> Vec<BucketSet> {
        let wanted = [
            self.quota_bytes.map(BucketSet::QuotaBytes),
            self.quota_objects.map(BucketSet::QuotaObjects),
            self.max_file_bytes.map(BucketSet::MaxFile),
            self.allowed_types.map(BucketSet::Types),
            self.allowed_extensions.map(BucketSet::Extensions),
            self.serve_as_download.map(BucketSet::Download),
        ];
        wanted.into_iter().flatten().collect()
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewPresign {
    method: String,
    key: String,
    #[serde(default)]
    expires_seconds: Option<u64>,
    #[serde(default)]
    endpoint: Option<String>,
}

fn bucket_json(detail: &BucketDetail) -> Value {
    let versioning = match detail.versioning {
        Versioning::Off => "off",
        Versioning::Enabled => "enabled",
        Versioning::Suspended => "suspended",
    };
    json!({
        "name": detail.bucket.name.as_str(),
        "created_at": detail.bucket.created.to_string(),
        "objects": detail.usage.objects,
        "bytes": detail.usage.bytes,
        "counting": detail.usage.counting,
        "quota_bytes": detail.settings.quota.max_bytes,
        "quota_objects": detail.settings.quota.max_objects,
        "max_file_bytes": detail.settings.files.max_bytes,
        "allowed_types": detail.settings.files.types,
        "allowed_extensions": detail.settings.files.extensions,
        "serve_as_download": detail.settings.files.download,
        "versioning": versioning,
        "public": detail.is_public(),
        "backend": BackendName::home(detail.home.as_ref()),
        "move": detail.moving.as_ref().map(move_json),
        "key_change": detail.key_change.as_ref().map(|change| json!({
            "began_at": change.began.to_string(),
            "rewrapped": change.rewrapped,
            "damaged": change.damaged,
            "percent": change.percent,
            "waits_for": change.waits_for,
        })),
    })
}

fn move_json(status: &MoveStatus) -> Value {
    json!({
        "to": status.to,
        "began_at": status.began.to_string(),
        "ended_at": status.ended.map(|ended| ended.to_string()),
        "moved": status.moved,
        "bytes": status.bytes,
        "expected_bytes": status.expected_bytes,
        "stayed": status.stayed,
        "trouble": status.trouble,
    })
}

fn object_json(key: &str, etag: &str, size: u64, modified: Timestamp) -> Value {
    json!({"key": key, "etag": etag, "size": size, "modified_at": modified.to_string()})
}

fn key(text: &str) -> Result<ObjectKey, Problem> {
    text.parse().map_err(|error| Problem::bad(format!("{error}")))
}

/// `GET /v1/buckets`.
pub async fn buckets(api: V1, _call: Call) -> Result<Reply, Problem> {
    page(api.objects().bucket_details().await?.iter().map(bucket_json).collect(), None)
}

/// `POST /v1/buckets`.
pub async fn create_bucket(api: V1, call: Call) -> Result<Reply, Problem> {
    let wanted: NewBucket = call.json()?;
    let name: BucketName = wanted.name.parse().map_err(|error| Problem::bad(format!("{error}")))?;
    match wanted.backend.as_deref().map(BackendName::or_local) {
        Some(home) => api.objects().create_bucket_at(&name, home.map_err(ObjectError::from)?).await?,
        None => api.objects().create_bucket(&name).await?,
    };
    api.users().note(&call.by(), "bucket.created", name.as_str()).await?;
    Reply::created(&bucket_json(&api.objects().bucket_detail(&name).await?))
}

/// `GET /v1/buckets/{bucket}`.
pub async fn bucket(api: V1, call: Call) -> Result<Reply, Problem> {
    Reply::ok(&bucket_json(&api.objects().bucket_detail(&call.parsed(0)?).await?))
}

/// `PATCH /v1/buckets/{bucket}`.
pub async fn change_bucket(api: V1, call: Call) -> Result<Reply, Problem> {
    let name: BucketName = call.parsed(0)?;
    let change: BucketChange = call.json()?;
    api.objects().set_bucket(&name, change.wanted()).await?;
    api.users().note(&call.by(), "bucket.limited", name.as_str()).await?;
    Reply::ok(&bucket_json(&api.objects().bucket_detail(&name).await?))
}

/// `POST /v1/buckets/{bucket}/move`. A move under way ends with it.
pub async fn move_bucket(api: V1, call: Call) -> Result<Reply, Problem> {
    let name: BucketName = call.parsed(0)?;
    let wanted: NewMove = call.json()?;
    let to = BackendName::or_local(&wanted.backend).map_err(ObjectError::from)?;
    api.objects().start_move(&name, to.clone()).await?;
    let noted = format!("{name} to {}", BackendName::home(to.as_ref()));
    api.users().note(&call.by(), "bucket.moved", &noted).await?;
    Reply::accepted(&bucket_json(&api.objects().bucket_detail(&name).await?))
}

/// `POST /v1/buckets/{bucket}/rotate-key`.
pub async fn rotate_bucket_key(api: V1, call: Call) -> Result<Reply, Problem> {
    let name: BucketName = call.parsed(0)?;
    api.objects().rotate_bucket_key(&name).await?;
    api.users().note(&call.by(), "bucket.key_rotated", name.as_str()).await?;
    Reply::accepted(&bucket_json(&api.objects().bucket_detail(&name).await?))
}

/// `DELETE /v1/buckets/{bucket}`.
pub async fn delete_bucket(api: V1, call: Call) -> Result<Reply, Problem> {
    let name: BucketName = call.parsed(0)?;
    api.objects().delete_bucket(&name).await?;
    api.users().note(&call.by(), "bucket.deleted", name.as_str()).await?;
    Ok(Reply::nothing())
}

/// `GET /v1/buckets/{bucket}/objects`.
pub async fn objects(api: V1, call: Call) -> Result<Reply, Problem> {
    let name: BucketName = call.parsed(0)?;
    let text = |name: &str| call.query.get(name).filter(|text| !text.is_empty()).map(str::to_owned);
    let query = ListQuery {
        prefix: text("prefix").unwrap_or_default(),
        delimiter: text("delimiter"),
        after: text("cursor"),
        max_keys: call.limit()?,
    };
    let found = api.objects().list(&name, query).await?;
    let objects: Vec<Value> = found
        .objects
        .iter()
        .map(|object| object_json(&object.key, &object.etag.to_string(), object.size, object.modified))
        .collect();
    Reply::ok(&json!({"items": objects, "prefixes": found.common_prefixes, "next": found.next}))
}

/// `GET /v1/buckets/{bucket}/object`.
pub async fn object(api: V1, call: Call) -> Result<Reply, Problem> {
    let (name, key) = (call.parsed(0)?, key(call.query.get("key").unwrap_or_default())?);
    let found = api.objects().head(&name, &key).await?;
    let mut out = object_json(key.as_str(), &found.etag.to_string(), found.size, found.modified);
    if let Value::Object(fields) = &mut out {
        fields.insert(String::from("content_type"), json!(found.metadata.content_type));
        let user: serde_json::Map<String, Value> =
            found.metadata.user.iter().map(|(name, value)| (name.clone(), Value::from(value.as_str()))).collect();
        fields.insert(String::from("metadata"), Value::Object(user));
    }
    Reply::ok(&out)
}

/// `DELETE /v1/buckets/{bucket}/object`.
pub async fn delete_object(api: V1, call: Call) -> Result<Reply, Problem> {
    let (name, key): (BucketName, _) = (call.parsed(0)?, key(call.query.get("key").unwrap_or_default())?);
    api.objects().delete(&name, &key, Condition::Any).await?;
    api.users().note(&call.by(), "object.deleted", &format!("{}/{}", name.as_str(), key.as_str())).await?;
    Ok(Reply::nothing())
}

/// `POST /v1/buckets/{bucket}/presign`. Signed with the oldest access key: revoking it voids the address.
pub async fn presign(api: V1, call: Call) -> Result<Reply, Problem> {
    let name: BucketName = call.parsed(0)?;
    let wanted: NewPresign = call.json()?;
    let key = key(&wanted.key)?;
    let method = match wanted.method.as_str() {
        "GET" => Method::GET,
        "PUT" => Method::PUT,
        other => return Err(Problem::bad(format!("method is GET or PUT, not `{other}`"))),
    };
    // A `PUT` changes data, and needs what changing data needs; this route lets readers in for `GET`.
    if method == Method::PUT && !call.token.scopes.allow(Scopes::WRITE) {
        return Err(Problem::scope(Scopes::WRITE));
    }
    api.objects().bucket(&name).await?;
    let endpoint = wanted.endpoint.or_else(|| api.s3_endpoint().map(str::to_owned));
    let endpoint = endpoint.ok_or_else(|| {
        Problem::new(
            StatusCode::CONFLICT,
            "the S3 door is off (setting s3.listen); name an `endpoint`, such as https://s3.example.com",
        )
    })?;
    let parsed = endpoint
        .parse::<Uri>()
        .ok()
        .filter(|uri| matches!(uri.scheme_str(), Some("http" | "https")) && uri.path() == "/" && uri.query().is_none());
    let host = parsed.as_ref().and_then(Uri::authority).filter(|host| !host.as_str().contains('@'));
    let host =
        host.ok_or_else(|| Problem::bad("an endpoint is scheme and host alone, such as https://s3.example.com"))?;
    let signing = api.users().primary_key();
    let signing = signing.ok_or_else(|| Problem::new(StatusCode::CONFLICT, "there is no access key to sign with"))?;
    let signer = Signer { access_key_id: signing.id.clone(), secret: signing.secret.clone() };
    let seconds = wanted.expires_seconds.unwrap_or(EXPIRES_SECONDS);
    let path = format!("/{}/{}", name.as_str(), uri::encode_path(key.as_str()));
    let grant = Grant {
        method: &method,
        host: host.as_str(),
        path: &path,
        query: &[],
        headers: &[],
        expires: Duration::from_secs(seconds),
    };
    let policy = Policy { service: "s3", region: api.region(), path: PathRule::Once };
    let address = sign(&signer, policy, grant, api.now()).map_err(|error| Problem::bad(error.to_string()))?;
    Reply::ok(&json!({
        "method": method.as_str(),
        "url": format!("{}{address}", endpoint.trim_end_matches('/')),
        "expires_at": api.now().after(Duration::from_secs(seconds)).to_string(),
    }))
}
