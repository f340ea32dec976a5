//! Somebody between two parties: passes everything on and records it, or does what the test says instead.

use std::{
    convert::Infallible,
    sync::{Arc, Mutex, PoisonError},
};

use axum::{
    Router,
    body::{Body, to_bytes},
    extract::{Request, State},
    http::{HeaderMap, HeaderName, Method, StatusCode, header},
    response::Response,
};
use bytes::Bytes;
use futures_util::StreamExt;
use glassbloom_service::http_client;
use glassbloom_spec::api::{
    Providers,
    frame::{Decoder, Frame},
    path,
};
use tokio::net::TcpListener;

/// A request as it arrived.
#[derive(Clone, Debug)]
pub struct Asked {
    /// Its method.
    pub method: Method,
    /// Path and query.
    pub path: String,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
}

/// An answer on its way back.
#[derive(Clone, Debug)]
pub struct Answered {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
    /// Whether the connection breaks after the body instead of ending as it should.
    pub breaks: bool,
}

type OnRequest = Arc<dyn Fn(&mut Asked) + Send + Sync>;
type OnAnswer = Arc<dyn Fn(&Asked, &mut Answered) + Send + Sync>;

#[derive(Default)]
struct Inner {
    upstream: String,
    on_request: Option<OnRequest>,
    on_answer: Option<OnAnswer>,
    asked: Vec<Asked>,
    /// Everything that passed, in both directions.
    seen: Vec<u8>,
}

/// A reverse proxy that a test controls.
#[derive(Clone)]
pub struct Evil {
    /// Its address.
    pub url: String,
    inner: Arc<Mutex<Inner>>,
    http: reqwest::Client,
}

impl Evil {
    /// Starts before this address, passing everything on.
    pub async fn before(upstream: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let evil = Self {
            url: format!("http://{}", listener.local_addr().unwrap()),
            inner: Arc::new(Mutex::new(Inner { upstream: upstream.to_owned(), ..Inner::default() })),
            http: http_client(),
        };
        let router = Router::new().fallback(pass).with_state(evil.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        evil
    }

    /// Passes requests on to another address from now on.
    pub fn redirect(&self, upstream: &str) {
        upstream.clone_into(&mut self.lock().upstream);
    }

    /// Changes requests from now on.
    pub fn on_request(&self, change: impl Fn(&mut Asked) + Send + Sync + 'static) {
        self.lock().on_request = Some(Arc::new(change));
    }

    /// Changes answers from now on; they arrive in one piece.
    pub fn on_answer(&self, change: impl Fn(&Asked, &mut Answered) + Send + Sync + 'static) {
        self.lock().on_answer = Some(Arc::new(change));
    }

    /// Changes the providers that the coordinator offers.
    pub fn on_providers(&self, change: impl Fn(&mut Providers) + Send + Sync + 'static) {
        self.on_answer(move |asked, answer| {
            if asked.path.starts_with(path::PROVIDERS) {
                let mut providers = serde_json::from_slice(&answer.body).unwrap();
                change(&mut providers);
                answer.body = serde_json::to_vec(&providers).unwrap().into();
            }
        });
    }

    /// Changes the frames of sealed answers.
    pub fn on_frames(&self, change: impl Fn(&mut Vec<Frame>) + Send + Sync + 'static) {
        self.on_answer(move |asked, answer| {
            if asked.path == path::SEALED && answer.status.is_success() {
                let mut frames = frames(&answer.body);
                change(&mut frames);
                answer.body = encode(&frames).into();
            }
        });
    }

    /// Passes everything on again.
    pub fn behave(&self) {
        let mut inner = self.lock();
        (inner.on_request, inner.on_answer) = (None, None);
    }

    /// The requests so far.
    pub fn asked(&self) -> Vec<Asked> {
        self.lock().asked.clone()
    }

    /// Everything that passed so far, in both directions.
    pub fn seen(&self) -> Vec<u8> {
        self.lock().seen.clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn record(&self, bytes: &[u8]) {
        self.lock().seen.extend_from_slice(bytes);
    }

    fn record_headers(&self, headers: &HeaderMap) {
        for (name, value) in headers {
            self.record(&[name.as_str().as_bytes(), b": ", value.as_bytes(), b"\n"].concat());
        }
    }
}

async fn pass(State(evil): State<Evil>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let mut asked = Asked {
        method: parts.method,
        path: parts.uri.path_and_query().map(ToString::to_string).unwrap_or_default(),
        headers: parts.headers,
        body: to_bytes(body, 8 << 20).await.unwrap(),
    };
    evil.record(format!("{} {}\n", asked.method, parts.uri).as_bytes());
    evil.record_headers(&asked.headers);
    evil.record(&asked.body);
    let (upstream, on_request, on_answer) = {
        let mut inner = evil.lock();
        inner.asked.push(asked.clone());
        (inner.upstream.clone(), inner.on_request.clone(), inner.on_answer.clone())
    };
    if let Some(change) = on_request {
        change(&mut asked);
    }
    let sent = evil
        .http
        .request(asked.method.clone(), format!("{upstream}{}", asked.path))
        .headers(end_to_end(&asked.headers))
        .body(asked.body.clone())
        .send()
        .await;
    let Ok(answer) = sent else {
        return Response::builder().status(StatusCode::BAD_GATEWAY).body(Body::empty()).unwrap();
    };
    let (status, headers) = (answer.status(), end_to_end(answer.headers()));
    evil.record_headers(&headers);
    let Some(change) = on_answer else {
        let recorder = evil.clone();
        let body = answer.bytes_stream().inspect(move |piece| {
            if let Ok(piece) = piece {
                recorder.record(piece);
            }
        });
        return respond(status, &headers, Body::from_stream(body));
    };
    let body = answer.bytes().await.unwrap_or_default();
    evil.record(&body);
    let mut answered = Answered { status, headers, body, breaks: false };
    change(&asked, &mut answered);
    let Answered { status, headers, body, breaks } = answered;
    if !breaks {
        return respond(status, &headers, Body::from(body));
    }
    let pieces = [Ok(body), Err(std::io::Error::other("broken on purpose"))];
    respond(status, &headers, Body::from_stream(futures_util::stream::iter(pieces)))
}

fn respond(status: StatusCode, headers: &HeaderMap, body: Body) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers.clone();
    response
}

fn end_to_end(headers: &HeaderMap) -> HeaderMap {
    const HOP: [HeaderName; 4] =
        [header::CONNECTION, header::CONTENT_LENGTH, header::HOST, header::TRANSFER_ENCODING];
    headers
        .iter()
        .filter(|(name, _)| !HOP.contains(name))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

/// Takes a relayed answer apart.
pub fn frames(body: &[u8]) -> Vec<Frame> {
    let mut decoder = Decoder::default();
    decoder.push(body);
    let frames = std::iter::from_fn(|| decoder.next_frame().unwrap()).collect();
    assert!(decoder.is_empty());
    frames
}

/// Puts it together.
pub fn encode(frames: &[Frame]) -> Vec<u8> {
    frames.iter().flat_map(Frame::encode).collect()
}

/// Counts the connections to an address that nobody may ever connect to.
pub async fn trap() -> (std::net::SocketAddr, tokio::sync::watch::Receiver<u32>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (count, counted) = tokio::sync::watch::channel(0);
    tokio::spawn(async move {
        while listener.accept().await.is_ok() {
            count.send_modify(|count| *count += 1);
        }
        Ok::<_, Infallible>(())
    });
    (address, counted)
}
