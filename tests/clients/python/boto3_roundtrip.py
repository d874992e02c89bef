"""boto3 with its defaults (flexible checksums, Expect: 100-continue) against AWS_ENDPOINT_URL_S3."""

import hashlib
import io
import json
import os
import urllib.error
import urllib.request

import boto3
from boto3.s3.transfer import TransferConfig
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import ClientError

BUCKET = "boto3-bucket"


def client(**options):
    config = Config(retries={"max_attempts": 1}, s3={"addressing_style": "path"}, **options)
    return boto3.client("s3", endpoint_url=os.environ["AWS_ENDPOINT_URL_S3"], region_name=os.environ["AWS_REGION"], config=config)


def code(call, **arguments):
    try:
        call(**arguments)
    except ClientError as error:
        return error.response["Error"]["Code"]
    raise AssertionError(f"{call.__name__} went through")


s3 = client()
s3.create_bucket(Bucket=BUCKET)
assert BUCKET in [bucket["Name"] for bucket in s3.list_buckets()["Buckets"]]

put = s3.put_object(Bucket=BUCKET, Key="a/hello ü+&.txt", Body=b"hello", ContentType="text/plain", Metadata={"colour": "blue"})
assert put["ETag"] == f'"{hashlib.md5(b"hello").hexdigest()}"'
got = s3.get_object(Bucket=BUCKET, Key="a/hello ü+&.txt")
assert got["Body"].read() == b"hello"
assert got["ContentType"] == "text/plain"
assert got["Metadata"] == {"colour": "blue"}
part = s3.get_object(Bucket=BUCKET, Key="a/hello ü+&.txt", Range="bytes=1-3")
assert (part["Body"].read(), part["ContentRange"]) == (b"ell", "bytes 1-3/5")

big = os.urandom(20 << 20)
s3.upload_fileobj(io.BytesIO(big), BUCKET, "big", Config=TransferConfig(multipart_threshold=8 << 20, multipart_chunksize=8 << 20))
assert s3.head_object(Bucket=BUCKET, Key="big")["ContentLength"] == len(big)
back = io.BytesIO()
s3.download_fileobj(BUCKET, "big", back)
assert back.getvalue() == big

s3.copy_object(Bucket=BUCKET, Key="copy", CopySource={"Bucket": BUCKET, "Key": "big"})
assert s3.head_object(Bucket=BUCKET, Key="copy")["ContentLength"] == len(big)

for number in range(12):
    s3.put_object(Bucket=BUCKET, Key=f"list/{number:02}", Body=b"")
pages = s3.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix="list/", PaginationConfig={"PageSize": 5})
keys = [entry["Key"] for page in pages for entry in page.get("Contents", [])]
assert keys == [f"list/{number:02}" for number in range(12)], keys
folders = s3.list_objects_v2(Bucket=BUCKET, Delimiter="/")
assert [prefix["Prefix"] for prefix in folders["CommonPrefixes"]] == ["a/", "list/"]

assert code(s3.get_object, Bucket=BUCKET, Key="missing") == "NoSuchKey"
assert code(s3.get_object, Bucket="missing-bucket", Key="x") == "NoSuchBucket"
assert code(s3.delete_bucket, Bucket=BUCKET) == "BucketNotEmpty"

url = client(signature_version="s3v4").generate_presigned_url("get_object", Params={"Bucket": BUCKET, "Key": "copy"}, ExpiresIn=60)
with urllib.request.urlopen(url) as answer:
    assert answer.read() == big

# In the old way, version 2, which is boto3's own where nothing else is said.
old = client(signature_version="s3")
sent = urllib.request.Request(
    old.generate_presigned_url("put_object", Params={"Bucket": BUCKET, "Key": "old ü+&", "ContentType": "text/x"}, ExpiresIn=60),
    b"by link", {"Content-Type": "text/x"}, method="PUT",
)
with urllib.request.urlopen(sent) as answer:
    assert answer.status == 200
named = {"Bucket": BUCKET, "Key": "old ü+&", "ResponseContentDisposition": 'attachment; filename="b ü"'}
url = old.generate_presigned_url("get_object", Params=named, ExpiresIn=60)
assert "AWSAccessKeyId" in url
with urllib.request.urlopen(url) as answer:
    assert answer.read() == b"by link" and answer.headers["Content-Type"] == "text/x"
    assert answer.headers["Content-Disposition"].startswith("attachment")
for changed in [url.replace("old", "copy"), f"{url}&acl", f"{url}&response-content-type=text/html"]:
    try:
        urllib.request.urlopen(changed)
        raise AssertionError(changed)
    except urllib.error.HTTPError as error:
        assert error.code in (400, 403)

assert code(s3.get_bucket_tagging, Bucket=BUCKET) == "NoSuchTagSet"
tags = [{"Key": "team", "Value": "web"}, {"Key": "ü", "Value": ""}]
s3.put_bucket_tagging(Bucket=BUCKET, Tagging={"TagSet": tags})
assert s3.get_bucket_tagging(Bucket=BUCKET)["TagSet"] == tags
s3.delete_bucket_tagging(Bucket=BUCKET)
assert code(s3.get_bucket_tagging, Bucket=BUCKET) == "NoSuchTagSet"
s3.put_object_tagging(Bucket=BUCKET, Key="copy", Tagging={"TagSet": tags})
assert s3.get_object_tagging(Bucket=BUCKET, Key="copy")["TagSet"] == tags

assert code(s3.get_bucket_policy, Bucket=BUCKET) == "NoSuchBucketPolicy"
statement = {"Effect": "Allow", "Principal": "*", "Action": "s3:GetObject", "Resource": f"arn:aws:s3:::{BUCKET}/a/*"}
policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
s3.put_bucket_policy(Bucket=BUCKET, Policy=policy)
assert s3.get_bucket_policy(Bucket=BUCKET)["Policy"] == policy
assert s3.get_bucket_policy_status(Bucket=BUCKET)["PolicyStatus"]["IsPublic"] is True
anyone = client(signature_version=UNSIGNED)
assert anyone.get_object(Bucket=BUCKET, Key="a/hello ü+&.txt")["Body"].read() == b"hello"
assert code(anyone.get_object, Bucket=BUCKET, Key="copy") == "AccessDenied"
assert code(anyone.list_objects_v2, Bucket=BUCKET) == "AccessDenied"
denying = json.dumps({"Version": "2012-10-17", "Statement": [{**statement, "Effect": "Deny"}]})
assert code(s3.put_bucket_policy, Bucket=BUCKET, Policy=denying) == "MalformedPolicy"
s3.delete_bucket_policy(Bucket=BUCKET)
assert code(anyone.get_object, Bucket=BUCKET, Key="a/hello ü+&.txt") == "AccessDenied"

form = client(signature_version="s3v4").generate_presigned_post(
    BUCKET, "form/${filename}", Fields={"success_action_status": "201", "Content-Type": "text/plain"},
    Conditions=[{"success_action_status": "201"}, ["starts-with", "$Content-Type", "text/"], ["content-length-range", 1, 100]],
    ExpiresIn=60,
)


def post(**changes):
    body = b"".join(
        f'--edge\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
        for name, value in {**form["fields"], **changes}.items()
    )
    body += b'--edge\r\nContent-Disposition: form-data; name="file"; filename="me.txt"\r\n\r\nby form\r\n--edge--\r\n'
    request = urllib.request.Request(form["url"], body, {"Content-Type": "multipart/form-data; boundary=edge"})
    try:
        with urllib.request.urlopen(request) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


assert post() == 201
assert s3.get_object(Bucket=BUCKET, Key="form/me.txt")["Body"].read() == b"by form"
assert post(key="elsewhere") == 403
assert post(**{"Content-Type": "image/png"}) == 403

assert code(s3.get_bucket_lifecycle_configuration, Bucket=BUCKET) == "NoSuchLifecycleConfiguration"
rules = [
    {"ID": "tmp", "Status": "Enabled", "Filter": {"And": {"Prefix": "tmp/", "Tags": [{"Key": "a", "Value": "b"}]}}, "Expiration": {"Days": 3}},
    {"ID": "old", "Status": "Enabled", "Filter": {"Prefix": ""},
     "NoncurrentVersionExpiration": {"NoncurrentDays": 2, "NewerNoncurrentVersions": 5},
     "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 7}},
]
s3.put_bucket_lifecycle_configuration(Bucket=BUCKET, LifecycleConfiguration={"Rules": rules})
assert s3.get_bucket_lifecycle_configuration(Bucket=BUCKET)["Rules"] == rules
assert "rule-id=\"tmp\"" in s3.put_object(Bucket=BUCKET, Key="tmp/a", Body=b"x", Tagging="a=b")["Expiration"]
s3.delete_bucket_lifecycle(Bucket=BUCKET)

everything = [{"Key": entry["Key"]} for entry in s3.list_objects_v2(Bucket=BUCKET)["Contents"]]
deleted = s3.delete_objects(Bucket=BUCKET, Delete={"Objects": everything})
assert len(deleted["Deleted"]) == len(everything) and "Errors" not in deleted
s3.delete_bucket(Bucket=BUCKET)
print("boto3", boto3.__version__, "ok")
