"""Each source of the default chain of AWS, and the roles that are taken with it."""

import hashlib
import json
import time

import pytest
from conftest import KEYS, Server, lent

ID, SECRET, TOKEN = KEYS
ONE = {ID: (SECRET, TOKEN)}


def works(gateway):
    status, text = gateway.chat()
    assert status == 200, text
    standing = json.loads(gateway.get("/credentials")[1])["credentials"]
    assert [(one["policy"], one["ready"], one["error"]) for one in standing] == [("default/bedrock", True, None)]


def later(seconds=3600):
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + seconds))


def test_variables(start):
    environment = {"AWS_ACCESS_KEY_ID": ID, "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_SESSION_TOKEN": TOKEN}
    works(start(environment, lambda: ONE))


def test_a_profile(start, tmp_path):
    path = tmp_path / "credentials"
    path.write_text(f"[team]\naws_access_key_id={ID}\naws_secret_access_key={SECRET}\naws_session_token={TOKEN}\n")
    works(start({"AWS_SHARED_CREDENTIALS_FILE": str(path), "AWS_PROFILE": "team"}, lambda: ONE))


def test_a_program(start, tmp_path):
    keys = {"Version": 1, "AccessKeyId": ID, "SecretAccessKey": SECRET, "SessionToken": TOKEN, "Expiration": later()}
    (tmp_path / "keys.json").write_text(json.dumps(keys))
    path = tmp_path / "config"
    path.write_text(f"[default]\ncredential_process = cat {tmp_path / 'keys.json'}\n")
    works(start({"AWS_CONFIG_FILE": str(path)}, lambda: ONE))


def test_a_login(start, tmp_path):
    """What `aws sso login` has left is exchanged for the keys of a role."""
    portal = Server(lambda request: (200, {"roleCredentials": {
        "accessKeyId": ID, "secretAccessKey": SECRET, "sessionToken": TOKEN, "expiration": int(time.time() + 3600) * 1000,
    }}))
    cache = tmp_path / ".aws" / "sso" / "cache"
    cache.mkdir(parents=True)
    login = {"accessToken": "login", "expiresAt": later(), "region": "us-east-1", "startUrl": "https://x.awsapps.com/start"}
    # The file is named by the session.
    (cache / f"{hashlib.sha1(b'work').hexdigest()}.json").write_text(json.dumps(login))
    path = tmp_path / "config"
    path.write_text("[default]\nsso_session=work\nsso_account_id=123456789012\nsso_role_name=reader\n"
                    "[sso-session work]\nsso_region=us-east-1\nsso_start_url=https://x.awsapps.com/start\n")
    environment = {"AWS_CONFIG_FILE": str(path), "AWS_ENDPOINT_URL_SSO": f"http://127.0.0.1:{portal.port}"}
    works(start(environment, lambda: ONE))
    asked = portal.requests[0]
    assert asked.path == "/federation/credentials?role_name=reader&account_id=123456789012"
    assert asked.headers["x-amz-sso_bearer_token"] == "login"


def test_a_service_account(start, tmp_path, moto):
    """The role of a service account of EKS (IRSA), from moto."""
    path = tmp_path / "token"
    path.write_text("head.claims.signature")
    environment = {
        "AWS_WEB_IDENTITY_TOKEN_FILE": str(path),
        "AWS_ROLE_ARN": "arn:aws:iam::123456789012:role/first",
        "AWS_ENDPOINT_URL_STS": f"http://127.0.0.1:{moto}",
    }
    works(start(environment, lent))


def test_a_pod(start, tmp_path):
    """EKS Pod Identity: an agent on the machine, and a token in a file."""
    path = tmp_path / "token"
    path.write_text("pod-token")

    def agent(request):
        if request.headers.get("authorization") != "pod-token":
            return 401, {}
        return 200, {"AccessKeyId": ID, "SecretAccessKey": SECRET, "Token": TOKEN, "Expiration": later()}

    environment = {
        "AWS_CONTAINER_CREDENTIALS_FULL_URI": f"http://127.0.0.1:{Server(agent).port}/v1/credentials",
        "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": str(path),
    }
    works(start(environment, lambda: ONE))


def test_a_machine(start):
    """The metadata service of an instance, in its second version."""

    def metadata(request):
        if request.path == "/latest/api/token" and request.command == "PUT":
            return 200, "imds-token", ("x-aws-ec2-metadata-token-ttl-seconds", "21600")
        if request.headers.get("x-aws-ec2-metadata-token") != "imds-token":
            return 401, {}
        if request.path.rstrip("/").endswith("/machine"):
            return 200, {"Code": "Success", "AccessKeyId": ID, "SecretAccessKey": SECRET, "Token": TOKEN,
                         "Expiration": later(), "LastUpdated": later(-60), "Type": "AWS-HMAC"}
        return (200, "machine") if "security-credentials" in request.path else (404, {})

    environment = {
        "AWS_EC2_METADATA_DISABLED": "false",
        "AWS_EC2_METADATA_SERVICE_ENDPOINT": f"http://127.0.0.1:{Server(metadata).port}",
    }
    works(start(environment, lambda: ONE))


def test_a_role_is_taken(start, moto):
    """A role is taken at moto with keys of the chain, and no call is signed with the keys themselves."""
    environment = {
        "AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE", "AWS_SECRET_ACCESS_KEY": "of-the-chain",
        "AWS_ENDPOINT_URL_STS": f"http://127.0.0.1:{moto}",
    }
    works(start(environment, lent, "role.yaml"))


@pytest.mark.parametrize("answer", [(500, {}), (200, "not JSON"), (403, {"Code": "x", "Message": SECRET})])
def test_a_source_that_fails_is_told_without_secrets(start, tmp_path, answer):
    path = tmp_path / "token"
    path.write_text(SECRET)
    environment = {
        "AWS_CONTAINER_CREDENTIALS_FULL_URI": f"http://127.0.0.1:{Server(lambda _: answer).port}/",
        "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": str(path),
    }
    gateway = start(environment, dict)
    status, text = gateway.chat()
    assert status == 503 and json.loads(text)["error"]["code"] == "credential_unavailable", text
    standing = json.loads(gateway.get("/credentials")[1])["credentials"][0]
    assert not standing["ready"] and standing["error"]
    assert SECRET not in text + gateway.said() + json.dumps(standing)
