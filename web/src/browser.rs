//! What only a browser can do: fetch, remember, copy, read files. The only file that imports `web_sys`.

use glassbloom_spec::id::UnixMillis;
use wasm_bindgen::{JsCast, JsValue, closure::Closure};
use wasm_bindgen_futures::JsFuture;

use crate::{
    data::site::Choices,
    reader::{Fetch, FetchError},
    route::Route,
};

/// Fetches with the browser.
#[derive(Clone, Copy, Debug, Default)]
pub struct BrowserFetch;

impl Fetch for BrowserFetch {
    async fn get(&self, url: &str) -> Result<Vec<u8>, FetchError> {
        let unreachable =
            |error: JsValue| FetchError::Unreachable { url: url.to_owned(), reason: message(&error) };
        let options = web_sys::RequestInit::new();
        options.set_credentials(web_sys::RequestCredentials::Omit);
        // Tiles never change and may be kept; what says how far the log is must be asked for again.
        if !url.contains("/tile/") {
            options.set_cache(web_sys::RequestCache::NoStore);
        }
        let answer =
            JsFuture::from(window().fetch_with_str_and_init(url, &options)).await.map_err(unreachable)?;
        let response: web_sys::Response = answer.unchecked_into();
        match response.status() {
            200..=299 => {}
            404 | 410 => return Err(FetchError::Missing { url: url.to_owned() }),
            status => return Err(FetchError::Status { url: url.to_owned(), status }),
        }
        let body =
            JsFuture::from(response.array_buffer().map_err(unreachable)?).await.map_err(unreachable)?;
        Ok(js_sys::Uint8Array::new(&body).to_vec())
    }
}

/// The bytes of a file that the visitor chose.
///
/// # Errors
/// When the browser cannot read it.
pub async fn read(file: web_sys::File) -> Result<Vec<u8>, String> {
    let body = JsFuture::from(file.array_buffer()).await.map_err(|error| message(&error))?;
    Ok(js_sys::Uint8Array::new(&body).to_vec())
}

/// The visitor's clock.
pub fn now() -> UnixMillis {
    UnixMillis::new(js_sys::Date::now() as u64)
}

/// The page that the address names.
pub fn route() -> Route {
    let fragment = window().location().hash().unwrap_or_default();
    fragment.parse().unwrap_or_else(|never| match never {})
}

/// Calls back whenever the address names another page.
pub fn on_route_change(mut changed: impl FnMut(Route) + 'static) {
    let listener = Closure::<dyn FnMut()>::new(move || changed(route()));
    // Fails only for a window that is gone.
    let _ = window().add_event_listener_with_callback("hashchange", listener.as_ref().unchecked_ref());
    listener.forget();
}

/// Names the page, and shows it from its top.
pub fn arrive(route: Route) {
    if let Some(document) = window().document() {
        document.set_title(&route.title());
    }
    window().scroll_to_with_x_and_y(0.0, 0.0);
}

/// What the address of the page and this browser's memory choose.
pub fn choices() -> Choices {
    let query = window().location().search().unwrap_or_default();
    let parameters = web_sys::UrlSearchParams::new_with_str(&query).ok();
    let parameter = |name: &str| parameters.as_ref()?.get(name).filter(|value| !value.is_empty());
    Choices { log: parameter("log"), policy: parameter("policy"), own_policy: stored(OWN_POLICY) }
}

/// The checkpoint of a log that was seen last.
pub fn kept_checkpoint(origin: &str) -> Option<String> {
    stored(&format!("{CHECKPOINT}{origin}"))
}

/// Keeps a checkpoint as the one seen last.
pub fn keep_checkpoint(origin: &str, note: &[u8]) {
    store(&format!("{CHECKPOINT}{origin}"), Some(&String::from_utf8_lossy(note)));
}

/// Keeps a policy of the visitor's, or forgets it.
pub fn keep_policy(text: Option<&str>) {
    store(OWN_POLICY, text);
}

/// Whether the visitor has unfolded something, or looks elsewhere: then the page must not change under their eyes.
pub fn is_reading() -> bool {
    let Some(document) = window().document() else { return false };
    document.hidden() || document.query_selector("main details[open]").is_ok_and(|found| found.is_some())
}

/// Loads the page anew.
pub fn reload() {
    // Fails only for a window that is gone.
    let _ = window().location().reload();
}

/// Puts text on the clipboard; calls back when it is there.
pub fn copy(text: String, copied: impl FnOnce() + 'static) {
    wasm_bindgen_futures::spawn_local(async move {
        if JsFuture::from(window().navigator().clipboard().write_text(&text)).await.is_ok() {
            copied();
        }
    });
}

/// Calls back after a while.
pub fn after(millis: i32, call: impl FnOnce() + 'static) {
    let call = Closure::once_into_js(call);
    // Fails only for a window that is gone.
    let _ = window().set_timeout_with_callback_and_timeout_and_arguments_0(call.unchecked_ref(), millis);
}

/// An address from which the browser downloads text.
pub fn download_address(text: &str) -> String {
    format!("data:text/plain;charset=utf-8,{}", percent_encoded(text))
}

fn percent_encoded(text: &str) -> String {
    let keep = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    text.bytes()
        .map(|byte| if keep(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

/// Takes the loading message away.
pub fn clear_boot_message() {
    if let Some(message) = window().document().and_then(|document| document.get_element_by_id("boot")) {
        message.remove();
    }
}

/// Shows panics in the browser's console: without it they say nothing at all.
pub fn report_panics() {
    std::panic::set_hook(Box::new(|panic| web_sys::console::error_1(&panic.to_string().into())));
}

fn stored(key: &str) -> Option<String> {
    window().local_storage().ok()??.get_item(key).ok()?
}

/// A browser that forbids storage forgets: the page then says so by showing every visit as the first.
fn store(key: &str, value: Option<&str>) {
    if let Ok(Some(storage)) = window().local_storage() {
        let _ = match value {
            Some(value) => storage.set_item(key, value),
            None => storage.remove_item(key),
        };
    }
}

fn message(error: &JsValue) -> String {
    let text = error.dyn_ref::<js_sys::Error>().map(|error| String::from(error.message()));
    text.or_else(|| error.as_string()).unwrap_or_else(|| "the browser does not say why".to_owned())
}

fn window() -> web_sys::Window {
    web_sys::window().expect("the explorer runs in a browser's window")
}

const CHECKPOINT: &str = "glassbloom/checkpoint/";
const OWN_POLICY: &str = "glassbloom/policy";
