//! Every route of `/v1`: the one table that requests are matched with and `/v1/openapi.json` is written from.

use std::future::ready;

use super::route::{Answer, Param, Route, Verb};
use super::{analytics, backups, bans, credentials, faults, limits, post, scrub, server, storage};
use crate::accounts::Scopes;

const READ: Option<Scopes> = Some(Scopes::READ);
const WRITE: Option<Scopes> = Some(Scopes::WRITE);
const ADMIN: Option<Scopes> = Some(Scopes::ADMIN);

const CURSOR: Param = Param::new("cursor", "Where the page begins: `next` of the page before.");
const LIMIT: Param = Param::new("limit", "Most entries of the page, 1 to 200; 50 when left out.");
const KEY: Param = Param { name: "key", doc: "The object's key.", required: true };

const fn get(
    path: &'static str,
    id: &'static str,
    doc: &'static str,
    answer: Answer,
    work: super::route::Work,
) -> Route {
    Route { verb: Verb::Get, path, scope: READ, id, doc, query: &[], body: None, status: 200, answer, work }
}

const fn post(
    path: &'static str,
    id: &'static str,
    doc: &'static str,
    answer: Answer,
    work: super::route::Work,
) -> Route {
    Route { verb: Verb::Post, path, scope: WRITE, id, doc, query: &[], body: None, status: 200, answer, work }
}

const fn delete(path: &'static str, id: &'static str, doc: &'static str, work: super::route::Work) -> Route {
    let (verb, answer) = (Verb::Delete, Answer::Nothing);
    Route { verb, path, scope: WRITE, id, doc, query: &[], body: None, status: 204, answer, work }
}

/// The routes, in the order of the document.
pub static ROUTES: &[Route] = &[
    get(
        "/status",
        "getStatus",
        "Whether the server and each of its parts works.",
        Answer::Json("Status"),
        |api, call| Box::pin(server::status(api, call)),
    ),
    Route {
        scope: None,
        ..get("/token", "getOwnToken", "The token this request was made with.", Answer::Json("Token"), |_api, call| {
            Box::pin(ready(credentials::own_token(&call)))
        })
    },
    Route {
        scope: ADMIN,
        ..get("/tokens", "listTokens", "Every API token, without secrets.", Answer::Json("TokenPage"), |api, call| {
            Box::pin(credentials::tokens(api, call))
        })
    },
    Route {
        scope: ADMIN,
        body: Some("NewToken"),
        status: 201,
        ..post(
            "/tokens",
            "createToken",
            "Makes an API token; its text is in this answer alone.",
            Answer::Json("CreatedToken"),
            |api, call| Box::pin(credentials::create_token(api, call)),
        )
    },
    Route {
        scope: ADMIN,
        ..delete("/tokens/{id}", "revokeToken", "Revokes an API token at once.", |api, call| {
            Box::pin(credentials::revoke_token(api, call))
        })
    },
    Route {
        scope: ADMIN,
        ..get(
            "/access-keys",
            "listAccessKeys",
            "Every S3 access key, without secrets, the oldest first.",
            Answer::Json("AccessKeyPage"),
            |api, _call| Box::pin(ready(credentials::access_keys(&api))),
        )
    },
    Route {
        scope: ADMIN,
        body: Some("NewAccessKey"),
        status: 201,
        ..post(
            "/access-keys",
            "createAccessKey",
            "Makes an S3 access key; it works at once, for S3, SES and SMTP, or for what its grants say.",
            Answer::Json("CreatedAccessKey"),
            |api, call| Box::pin(credentials::create_access_key(api, call)),
        )
    },
    Route {
        scope: ADMIN,
        verb: Verb::Patch,
        body: Some("AccessKeyChange"),
        ..post(
            "/access-keys/{id}",
            "changeAccessKey",
            "Changes label, rights or end of an S3 access key, at once; what is left out stays, grants of null stand for everything.",
            Answer::Json("AccessKey"),
            |api, call| Box::pin(credentials::change_access_key(api, call)),
        )
    },
    Route {
        scope: ADMIN,
        body: Some("AccessKeyRotation"),
        ..post(
            "/access-keys/{id}/rotate",
            "rotateAccessKey",
            "Gives an S3 access key another secret; the old one signs on for a week, or as long as asked.",
            Answer::Json("CreatedAccessKey"),
            |api, call| Box::pin(credentials::rotate_access_key(api, call)),
        )
    },
    Route {
        scope: ADMIN,
        ..delete(
            "/access-keys/{id}/old-secret",
            "retireOldSecret",
            "Ends the secret that an S3 access key had before the last change, at once; fine when there is none.",
            |api, call| Box::pin(credentials::retire_secret(api, call)),
        )
    },
    Route {
        scope: ADMIN,
        ..delete(
            "/access-keys/{id}",
            "revokeAccessKey",
            "Revokes an S3 access key at once; the last one that may do everything and does not end stays.",
            |api, call| Box::pin(credentials::revoke_access_key(api, call)),
        )
    },
    Route {
        scope: ADMIN,
        query: &[CURSOR, LIMIT],
        ..get("/audit", "listAudit", "Who did what, newest first.", Answer::Json("AuditPage"), |api, call| {
            Box::pin(credentials::audit(api, call))
        })
    },
    Route {
        scope: ADMIN,
        ..get(
            "/settings",
            "listSettings",
            "Every setting, its value and where it comes from. No setting holds a secret.",
            Answer::Json("SettingPage"),
            |api, _call| Box::pin(ready(server::settings(&api))),
        )
    },
    get(
        "/certificates",
        "listCertificates",
        "The certificate in use for each name of the edge, and what the last attempt to get one came to.",
        Answer::Json("CertificatePage"),
        |api, _call| Box::pin(ready(server::certificates(&api))),
    ),
    Route {
        status: 202,
        ..post(
            "/certificates/{name}/renew",
            "renewCertificate",
            "Orders a certificate for a name now; what becomes of it is in `listCertificates`.",
            Answer::Json("Certificate"),
            |api, call| Box::pin(server::renew(api, call)),
        )
    },
    get(
        "/internal-ca",
        "getInternalAuthority",
        "The root certificate of the internal authority (`edge.internal_ca`), for devices to trust.",
        Answer::Json("InternalAuthority"),
        |api, _call| Box::pin(ready(server::internal_authority(&api))),
    ),
    get(
        "/upstreams",
        "listUpstreams",
        "Every copy of every app behind the edge, and how it does.",
        Answer::Json("UpstreamPage"),
        |api, _call| Box::pin(ready(server::upstreams(&api))),
    ),
    get("/buckets", "listBuckets", "Every bucket, by name.", Answer::Json("BucketPage"), |api, call| {
        Box::pin(storage::buckets(api, call))
    }),
    Route {
        body: Some("NewBucket"),
        status: 201,
        ..post(
            "/buckets",
            "createBucket",
            "Makes a bucket; one that is there stays as it is.",
            Answer::Json("Bucket"),
            |api, call| Box::pin(storage::create_bucket(api, call)),
        )
    },
    get(
        "/buckets/{bucket}",
        "getBucket",
        "A bucket, what it holds and may hold.",
        Answer::Json("Bucket"),
        |api, call| Box::pin(storage::bucket(api, call)),
    ),
    Route {
        verb: Verb::Patch,
        body: Some("BucketChange"),
        ..post(
            "/buckets/{bucket}",
            "changeBucket",
            "Changes what a bucket may hold and which files it takes, at once; what is left out stays, null is no limit.",
            Answer::Json("Bucket"),
            |api, call| Box::pin(storage::change_bucket(api, call)),
        )
    },
    Route {
        body: Some("NewMove"),
        status: 202,
        ..post(
            "/buckets/{bucket}/move",
            "moveBucket",
            "Begins to move a bucket's bodies to another backend while they are in use; `local` is the server's own disk. To where it came from, that calls a move off.",
            Answer::Json("Bucket"),
            |api, call| Box::pin(storage::move_bucket(api, call)),
        )
    },
    Route {
        status: 202,
        ..post(
            "/buckets/{bucket}/rotate-key",
            "rotateBucketKey",
            "Gives a bucket another key at once; what is stored already is put under it behind the scenes.",
            Answer::Json("Bucket"),
            |api, call| Box::pin(storage::rotate_bucket_key(api, call)),
        )
    },
    delete("/buckets/{bucket}", "deleteBucket", "Deletes an empty bucket.", |api, call| {
        Box::pin(storage::delete_bucket(api, call))
    }),
    Route {
        query: &[
            Param::new("prefix", "Only keys that start with this."),
            Param::new("delimiter", "Keys that contain this behind the prefix are rolled up into one entry."),
            CURSOR,
            LIMIT,
        ],
        ..get(
            "/buckets/{bucket}/objects",
            "listObjects",
            "A bucket's objects, by key.",
            Answer::Json("ObjectPage"),
            |api, call| Box::pin(storage::objects(api, call)),
        )
    },
    Route {
        query: &[KEY],
        ..get(
            "/buckets/{bucket}/object",
            "getObject",
            "What is known about an object; its bytes come from S3, see presign.",
            Answer::Json("Object"),
            |api, call| Box::pin(storage::object(api, call)),
        )
    },
    Route {
        query: &[KEY],
        ..delete(
            "/buckets/{bucket}/object",
            "deleteObject",
            "Deletes an object; fine when there is none.",
            |api, call| Box::pin(storage::delete_object(api, call)),
        )
    },
    Route {
        scope: READ,
        body: Some("NewPresign"),
        ..post(
            "/buckets/{bucket}/presign",
            "presign",
            "Makes an address that lets whoever has it get or put one object until it expires.",
            Answer::Json("Presigned"),
            |api, call| Box::pin(storage::presign(api, call)),
        )
    },
    get(
        "/scrub",
        "getScrub",
        "How reading and verifying every stored byte stands, and what is damaged: at most 200 of it, by bucket and key.",
        Answer::Json("Scrub"),
        |api, call| Box::pin(scrub::status(api, call)),
    ),
    Route {
        status: 202,
        ..post(
            "/scrub",
            "startScrub",
            "Begins to read and verify every stored byte; a pass under way goes on.",
            Answer::Json("Scrub"),
            |api, call| Box::pin(scrub::start(api, call)),
        )
    },
    Route {
        query: &[
            Param::new(
                "state",
                "Only messages with a delivery in this state: queued, deferred, sent, failed, kept or cancelled.",
            ),
            Param::new("text", "Only messages with this in subject, sender or recipient."),
            CURSOR,
            LIMIT,
        ],
        ..get(
            "/mail",
            "listMessages",
            "Messages, newest first. A page may be short, even empty, and go on.",
            Answer::Json("MessagePage"),
            |api, call| Box::pin(post::messages(api, call)),
        )
    },
    get(
        "/mail/{id}",
        "getMessage",
        "A message with each recipient's delivery and its history.",
        Answer::Json("Message"),
        |api, call| Box::pin(post::message(api, call)),
    ),
    get(
        "/mail/{id}/raw",
        "getMessageText",
        "A message as it is sent; one with a link that lets its reader in only when the link works no more.",
        Answer::Message,
        |api, call| Box::pin(post::raw(api, call)),
    ),
    post(
        "/mail/{id}/retry",
        "retryMessage",
        "Makes the next attempt due now, of every delivery that waits, failed or was cancelled.",
        Answer::Json("Message"),
        |api, call| Box::pin(post::retry(api, call)),
    ),
    post(
        "/mail/{id}/cancel",
        "cancelMessage",
        "Takes the deliveries that wait out of the queue; an attempt under way is not stopped.",
        Answer::Json("Message"),
        |api, call| Box::pin(post::cancel(api, call)),
    ),
    Route {
        query: &[
            Param::new("status", "Only issues of this status: open, resolved or ignored."),
            Param::new("level", "Only issues of this level, such as error."),
            Param::new("project", "Only issues of this project."),
            Param::new("text", "Only issues with this in title or culprit."),
            CURSOR,
            LIMIT,
        ],
        ..get(
            "/issues",
            "listIssues",
            "Captured errors, the last seen first.",
            Answer::Json("IssuePage"),
            |api, call| Box::pin(faults::issues(api, call)),
        )
    },
    get(
        "/issues/{id}",
        "getIssue",
        "An issue, its tags, and the events kept of it.",
        Answer::Json("IssueDetail"),
        |api, call| Box::pin(faults::issue(api, call)),
    ),
    Route {
        verb: Verb::Patch,
        body: Some("IssueChange"),
        ..post("/issues/{id}", "changeIssue", "Says where an issue stands.", Answer::Json("Issue"), |api, call| {
            Box::pin(faults::change(api, call))
        })
    },
    get(
        "/issues/{id}/events/{number}",
        "getEvent",
        "An event as it was captured and scrubbed; the number `latest` is the newest.",
        Answer::Json("Event"),
        |api, call| Box::pin(faults::event(api, call)),
    ),
    get(
        "/limits",
        "listLimits",
        "Every policy of rate limits, by name, with what came of it since the start.",
        Answer::Json("LimitPage"),
        |api, _call| Box::pin(ready(limits::policies(&api))),
    ),
    get(
        "/limits/rejections",
        "listRejections",
        "The last refused attempts, the newest first; at most a hundred, since the start.",
        Answer::Json("RejectionPage"),
        |api, _call| Box::pin(ready(limits::rejections(&api))),
    ),
    Route {
        body: Some("Attempt"),
        ..post(
            "/limits/{policy}/check",
            "checkLimit",
            "Asks whether an attempt may go on; it counts if so. Send the fields the policy counts by.",
            Answer::Json("LimitAnswer"),
            |api, call| Box::pin(ready(limits::check(&api, &call))),
        )
    },
    Route {
        body: Some("AttemptBy"),
        ..post(
            "/limits/{policy}/failed",
            "noteFailure",
            "Notes that an attempt failed, such as a login with a wrong password.",
            Answer::Json("LimitAnswer"),
            |api, call| Box::pin(ready(limits::failed(&api, &call))),
        )
    },
    Route {
        body: Some("AttemptBy"),
        status: 204,
        ..post(
            "/limits/{policy}/reset",
            "resetLimit",
            "After a success: the counters of whoever it was begin anew.",
            Answer::Nothing,
            |api, call| Box::pin(ready(limits::reset(&api, &call))),
        )
    },
    Route {
        query: &[CURSOR, LIMIT],
        ..get("/bans", "listBans", "Who is banned at the edge, by address.", Answer::Json("BanPage"), |api, call| {
            Box::pin(ready(bans::list(&api, &call)))
        })
    },
    Route {
        body: Some("NewBan"),
        status: 201,
        ..post(
            "/bans",
            "addBan",
            "Bans an address (IPv6: its /64) or a network, for a time or until it is lifted.",
            Answer::Json("Ban"),
            |api, call| Box::pin(bans::add(api, call)),
        )
    },
    Route {
        query: &[Param { name: "address", doc: "The address or network, as the list has it.", required: true }],
        ..delete("/bans", "liftBan", "Lifts a ban and forgets those before it.", |api, call| {
            Box::pin(bans::remove(api, call))
        })
    },
    Route {
        query: &[
            Param::new("from", "The first day (UTC), such as 2026-11-01; 30 days when left out."),
            Param::new("to", "The last day; today when left out."),
        ],
        ..get(
            "/sites/{site}/analytics",
            "getAnalytics",
            "How the pages of a site were visited, and how fast they were; the site by its first host.",
            Answer::Json("Analytics"),
            |api, call| Box::pin(analytics::show(api, call)),
        )
    },
    get(
        "/cache",
        "getCache",
        "What is kept of the answers of apps, in memory and on disk, and how the disk stands.",
        Answer::Json("Cache"),
        |api, _call| Box::pin(ready(server::cache(&api))),
    ),
    Route {
        body: Some("CachePurge"),
        ..post(
            "/cache/purge",
            "purgeCache",
            "Takes kept answers of apps away: of a host, under the beginning of a path, both, or all.",
            Answer::Json("CachePurged"),
            |api, call| Box::pin(server::purge(api, call)),
        )
    },
    get(
        "/backups",
        "getBackups",
        "How backups stand: the target, the run under way, the last one, the last that failed, the last proven.",
        Answer::Json("Backups"),
        |api, _call| Box::pin(ready(backups::status(&api))),
    ),
    Route {
        status: 202,
        ..post(
            "/backups",
            "startBackup",
            "Begins a backup to the set target; how it goes is in `getBackups`.",
            Answer::Json("Backups"),
            |api, call| Box::pin(backups::start(api, call)),
        )
    },
    Route {
        query: &[Param::new("source", "Only snapshots of this, such as `mainstay`."), CURSOR, LIMIT],
        ..get(
            "/backups/snapshots",
            "listSnapshots",
            "The snapshots at the set target, newest first.",
            Answer::Json("SnapshotPage"),
            |api, call| Box::pin(backups::snapshots(api, call)),
        )
    },
];
