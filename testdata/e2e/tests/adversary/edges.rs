//! Outsiders, curious relays, and requests that want to go elsewhere.

use axum::http::Method;
use glassbloom_service::http_client;
use glassbloom_spec::api::path;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::support::{
    TestNet,
    client::{PROMPT_MARKER, read, request, send},
    contains,
    engine::ANSWER_MARKER,
    evil::{Evil, trap},
    files_below, within,
};

#[tokio::test(flavor = "multi_thread")]
async fn a13_every_route_needs_a_key() {
    within(async {
        let net = TestNet::start().await;
        let client = net.client(&net.url).await;
        let provider_token = std::fs::read_to_string(net.providers[0].data.join("token")).unwrap();
        let (get, post) = (Method::GET, Method::POST);
        let log = ["registry/add", "registry/append", "receipts/add", "receipts/append"];
        let mut routes: Vec<(String, Method, &str)> =
            log.iter().map(|route| (format!("{}/{route}", net.log_url), post.clone(), "log")).collect();
        for (route, method) in [
            (path::CHAT, &post),
            (path::MODELS, &get),
            ("/v1/models/test-model", &get),
            (path::PROVIDERS, &get),
            (path::SEALED, &post),
        ] {
            routes.push((format!("{}{route}?model=test-model", net.url), method.clone(), "user"));
        }
        routes.push((format!("{}{}", net.url, path::SESSION), get.clone(), "provider"));
        for (route, method) in [(path::CHAT, &post), (path::MODELS, &get), ("/v1/models/test-model", &get)] {
            routes.push((format!("{}{route}", client.url), method.clone(), "user"));
        }
        let keys = [("log", &net.log_token), ("user", &net.key), ("provider", &provider_token)];
        for (url, method, access) in &routes {
            let mut wrong: Vec<Option<String>> = vec![
                None,
                Some(String::new()),
                Some("Bearer".to_owned()),
                Some("Bearer ".to_owned()),
                Some("Bearer wrong".to_owned()),
                Some("Basic dXNlcjpwYXNz".to_owned()),
            ];
            for (kind, key) in keys {
                match kind == *access {
                    true => wrong.extend(
                        [format!("Bearer {}", &key[..key.len() - 1]), format!("Bearer {key}x")].map(Some),
                    ),
                    false => wrong.push(Some(format!("Bearer {key}"))),
                }
            }
            for authorization in wrong {
                let mut builder = http_client().request(method.clone(), url).body(request(false).to_string());
                if let Some(value) = &authorization {
                    builder = builder.header("authorization", value);
                }
                let response = builder.send().await.unwrap();
                assert_eq!(response.status(), 401, "{method} {url} with {authorization:?}");
            }
        }
        // What is public, and nothing beside it by another spelling.
        for url in [
            format!("{}/healthz", net.url),
            format!("{}/metrics", net.url),
            format!("{}/healthz", client.url),
        ] {
            assert_eq!(http_client().get(&url).send().await.unwrap().status(), 200, "{url}");
        }
        for base in [&net.url, &client.url] {
            for spelling in
                ["/v1/models/", "/v1//models", "//v1/models", "/V1/models", "/v1/./models", "/v1/%6dodels/"]
            {
                let url = format!("{base}{spelling}");
                let status = http_client().get(&url).send().await.unwrap().status().as_u16();
                assert!(matches!(status, 401 | 404), "{url}: {status}");
            }
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a11_upstream_is_never_taken_from_a_request() {
    within(async {
        let net = TestNet::start().await;
        let client = net.client(&net.url).await;
        let (address, caught) = trap().await;
        let elsewhere = format!("http://{address}");
        for name in [
            "forwarded",
            "glassbloom-attestation",
            "glassbloom-coordinator",
            "x-base-url",
            "x-enclave-url",
            "x-forwarded-host",
            "x-forwarded-server",
            "x-host",
            "x-original-url",
            "x-rewrite-url",
            "x-tinfoil-enclave-url",
            "x-upstream",
        ] {
            let builder = http_client().post(format!("{}{}", client.url, path::CHAT)).bearer_auth(&client.key);
            send(builder.header(name, &elsewhere), &request(true)).await.is_answered();
        }
        // Fields of the body are refused by name, not followed.
        let mut body = request(false);
        body["base_url"] = elsewhere.clone().into();
        let builder = http_client().post(format!("{}{}", client.url, path::CHAT)).bearer_auth(&client.key);
        let said = send(builder, &body).await;
        assert_eq!((said.status, said.error.unwrap()["param"].as_str()), (400, Some("base_url")));
        // Another host, and a request line in the form that is meant for HTTP proxies.
        let listen = client.url.trim_start_matches("http://");
        for target in [path::CHAT.to_owned(), format!("{elsewhere}{}", path::CHAT)] {
            let body = request(false).to_string();
            let head = format!(
                "POST {target} HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {}\r\ncontent-type: application/json\r\n\
                 content-length: {}\r\nconnection: close\r\n\r\n",
                client.key,
                body.len()
            );
            let mut stream = TcpStream::connect(listen).await.unwrap();
            stream.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            assert!(answer.starts_with("HTTP/1.1 200") && answer.contains(ANSWER_MARKER), "{answer}");
        }
        let mut stream = TcpStream::connect(listen).await.unwrap();
        stream.write_all(format!("CONNECT {address} HTTP/1.1\r\nhost: {address}\r\n\r\n").as_bytes()).await.unwrap();
        let mut status = [0; 12];
        stream.read_exact(&mut status).await.unwrap();
        assert!(status.starts_with(b"HTTP/1.1 4"), "{}", String::from_utf8_lossy(&status));
        assert_eq!(*caught.borrow(), 0, "nobody was sent elsewhere");
    })
    .await;
}

/// What an SDK says of its user beside the request.
const SDK_HEADERS: [(&str, &str); 10] = [
    ("user-agent", "OpenAI/Python 9.9.9-sdk-marker"),
    ("x-stainless-lang", "python-sdk-marker"),
    ("x-stainless-os", "Linux-sdk-marker"),
    ("x-stainless-arch", "arm64-sdk-marker"),
    ("x-stainless-runtime-version", "3.14-sdk-marker"),
    ("x-stainless-retry-count", "7"),
    ("openai-organization", "org-sdk-marker"),
    ("openai-project", "proj-sdk-marker"),
    ("x-session-id", "session-sdk-marker"),
    ("cookie", "session=sdk-marker"),
];

#[tokio::test(flavor = "multi_thread")]
async fn coordinator_never_sees_plaintext() {
    within(async {
        let net = TestNet::start().await;
        let evil = Evil::before(&net.url).await;
        let client = net.client(&evil.url).await;
        for stream in [true, false, true] {
            let mut builder =
                http_client().post(format!("{}{}", client.url, path::CHAT)).bearer_auth(&client.key);
            for (name, value) in SDK_HEADERS {
                builder = builder.header(name, value);
            }
            send(builder, &request(stream)).await.is_answered();
        }
        // What the relay carries.
        let seen = evil.seen();
        let sealed: Vec<_> = evil.asked().into_iter().filter(|asked| asked.path == path::SEALED).collect();
        assert_eq!(sealed.len(), 3);
        // The same request twice is not recognisable.
        assert_ne!(sealed[0].body, sealed[2].body);
        assert_eq!(sealed[0].body.len(), sealed[2].body.len());
        for marker in [PROMPT_MARKER, ANSWER_MARKER, "sdk-marker", "stainless"] {
            for secret in spellings(marker) {
                assert!(!contains(&seen, secret.as_bytes()), "{secret} passed through the relay");
            }
        }
        // One fixed set of clear headers, whatever the application sends.
        for asked in sealed {
            let mut names: Vec<&str> = asked.headers.keys().map(|name| name.as_str()).collect();
            names.sort_unstable();
            let fixed = [
                "accept",
                "authorization",
                "content-length",
                "content-type",
                "glassbloom-attestation",
                "glassbloom-model",
                "host",
            ];
            assert_eq!(names, fixed);
            assert_eq!(asked.headers["content-type"], "message/ohttp-chunked-req");
        }
        // What everybody but the user keeps.
        for folder in ["log", "coordinator", "provider0", "witness1", "witness2"] {
            for (file, content) in files_below(&net.folder().join(folder)) {
                for secret in [PROMPT_MARKER, ANSWER_MARKER].into_iter().flat_map(spellings) {
                    assert!(!contains(&content, secret.as_bytes()), "{secret} is in {}", file.display());
                }
            }
        }
        // The check can find something: plain text does reach the coordinator that is asked to seal.
        let builder = http_client().post(format!("{}{}", evil.url, path::CHAT)).bearer_auth(&net.key);
        read(builder.body(request(true).to_string()).send().await.unwrap()).await.is_answered();
        assert!(contains(&evil.seen(), PROMPT_MARKER.as_bytes()));
    })
    .await;
}

/// As text, in hexadecimal, and in base64 at each of the three places where it can begin.
fn spellings(marker: &str) -> Vec<String> {
    use base64::{Engine, prelude::BASE64_STANDARD_NO_PAD};
    let hex: String = marker.bytes().map(|byte| format!("{byte:02x}")).collect();
    let mut found = vec![marker.to_owned(), hex];
    for shift in 0..3 {
        let encoded = BASE64_STANDARD_NO_PAD.encode([&b"xx"[..shift], marker.as_bytes()].concat());
        // The first and last characters depend on what is around.
        let from = if shift == 0 { 0 } else { 4 };
        found.push(encoded[from..encoded.len() - 3].to_owned());
    }
    found
}
