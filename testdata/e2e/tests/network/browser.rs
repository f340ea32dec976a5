//! The explorer in Chromium.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    str::FromStr,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use fantoccini::{Client, ClientBuilder, Locator, elements::Element, wd::WebDriverCompatibleCommand};
use glassbloom_e2e::network::{Part, Plan};
use glassbloom_testdata::{repository, skipped};
use hyper_util::client::legacy::connect::HttpConnector;
use reqwest::{Method, Url};
use serde_json::{Value, json};

use crate::{bed::Bed, chat::answered_within};

/// A page shows what it is asked for within this.
const LIMIT: Duration = Duration::from_secs(30);

/// Looks at every page, with the bundle of a receipt at hand.
pub(crate) async fn explorer(bed: &Bed, bundle: &Path) -> Result<()> {
    if !is_there("chromedriver") || !(is_there("chromium") || is_there("google-chrome")) {
        skipped("needs Chromium and chromedriver (Debian: apt install chromium chromium-driver)");
        return Ok(());
    }
    let driver = Driver::start()?;
    let profile = tempfile::tempdir()?;
    let tab = Tab::open(&driver, profile.path(), bed.plan().url(Part::Explorer)).await?;
    let seen = async {
        pages(&tab, bundle).await?;
        second_visit(&tab, bed.plan()).await
    };
    let seen = match seen.await {
        Ok(()) => tab.no_errors().await,
        Err(error) => {
            // What it looked like; the first error says more than a second one would.
            let _ = tab.screenshot("failed").await;
            let console = tab.console().await.unwrap_or_default();
            Err(error.context(format!("the console says {console:?}")))
        }
    };
    // The browser outlives its driver unless it is told to go.
    tab.client.close().await?;
    seen
}

async fn pages(tab: &Tab, bundle: &Path) -> Result<()> {
    tab.go("#/").await?;
    for log in ["registry", "receipts"] {
        tab.sees(&format!("[data-testid=log-{log}] [data-testid=log-verdict][data-state=verified]")).await?;
        let witnesses = format!("[data-testid=log-{log}] [data-testid=witness]:not(.absent)");
        let witnesses = tab.client.find_all(Locator::Css(&witnesses)).await?;
        ensure!(witnesses.len() == 2, "{log}: {} witnesses are shown to have cosigned", witnesses.len());
    }
    tab.screenshot("overview").await?;

    let provider = tab.sees("[data-testid=provider-row]").await?;
    let provider = provider.attr("href").await?.context("a provider's row is a link")?;
    tab.go("#/entry/receipts/0").await?;
    tab.sees("[data-testid=page-entry]").await?;
    let verdict = tab.sees("[data-testid=entry-verdict][data-state=verified] summary").await?;
    let words = verdict.text().await?;
    ensure!(words.contains("Verified in this browser"), "{words:?}");
    tab.sees("[data-testid=inclusion-path][data-state=verified]").await?;
    tab.screenshot("entry").await?;

    tab.go(&provider).await?;
    tab.sees("[data-testid=provider-verdict][data-state=verified]").await?;
    let tier = tab.sees("[data-testid=provider-tier]").await?.text().await?;
    ensure!(tier.contains("self-signed") && tier.to_lowercase().contains("does not prove"), "{tier:?}");
    tab.screenshot("provider").await?;

    tab.go("#/verify").await?;
    tab.chooses(bundle).await?;
    tab.sees("[data-testid=verify-result][data-state=verified]").await?;
    tab.screenshot("verify").await?;
    let mut bytes = fs::read(bundle)?;
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    let tampered = bundle.with_extension("tampered");
    fs::write(&tampered, bytes)?;
    tab.chooses(&tampered).await?;
    tab.sees("[data-testid=verify-result][data-state=failed]").await?;
    tab.screenshot("tampered").await?;
    Ok(())
}

/// The log has grown since; the browser compares it with the checkpoint that it kept.
async fn second_visit(tab: &Tab, plan: &Plan) -> Result<()> {
    let (receipt, _) = answered_within(plan, LIMIT).await?;
    tab.go("#/policy").await?;
    tab.sees("[data-testid=page-policy]").await?;
    tab.go("#/").await?;
    let verdict = "[data-testid=log-receipts] [data-testid=log-verdict][data-state=verified]";
    tab.sees(verdict).await?;
    let size = tab.sees("[data-testid=log-receipts] [data-testid=log-size]").await?.text().await?;
    ensure!(
        size == (receipt.index + 1).to_string(),
        "{size} entries are shown, the newest is {}",
        receipt.index
    );
    let step = tab
        .sees(&format!("{verdict} [data-testid=step][data-step='Consistent with your last visit']"))
        .await?;
    ensure!(step.attr("data-state").await?.as_deref() == Some("verified"), "{:?}", step.html(false).await?);
    Ok(())
}

fn is_there(program: &str) -> bool {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&paths).any(|folder| folder.join(program).is_file())
}

/// A chromedriver on a port of its own choice.
struct Driver {
    child: Child,
    url: String,
}

impl Driver {
    fn start() -> Result<Self> {
        let mut child = Command::new("chromedriver")
            .arg("--port=0")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .context("starting chromedriver")?;
        let mut lines = BufReader::new(child.stdout.take().context("its output is piped")?).lines();
        let port = lines.by_ref().map_while(Result::ok).find_map(|line| {
            line.split_once("started successfully on port ")
                .map(|(_, port)| port.trim_end_matches('.').to_owned())
        });
        // It must not wait for a reader, should it say more.
        std::thread::spawn(move || lines.for_each(drop));
        let mut driver = Self { child, url: String::new() };
        let port = port.context("chromedriver names no port")?;
        driver.url = format!("http://127.0.0.1:{port}");
        Ok(driver)
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A browser's only tab, on the explorer.
struct Tab {
    client: Client,
    explorer: String,
    screenshots: PathBuf,
}

impl Tab {
    async fn open(driver: &Driver, profile: &Path, explorer: String) -> Result<Self> {
        let arguments = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--window-size=1280,1400",
            &format!("--user-data-dir={}", profile.display()),
        ];
        let Value::Object(wanted) = json!({
            "browserName": "chrome",
            "goog:chromeOptions": {"args": arguments},
            "goog:loggingPrefs": {"browser": "ALL"},
        }) else {
            unreachable!("it is written as an object")
        };
        let client = ClientBuilder::new(HttpConnector::new())
            .capabilities(wanted)
            .connect(&driver.url)
            .await
            .context("starting Chromium")?;
        let screenshots = repository().join("target/e2e-screenshots");
        fs::create_dir_all(&screenshots)?;
        Ok(Self { client, explorer, screenshots })
    }

    /// Goes to a page of the explorer.
    async fn go(&self, page: &str) -> Result<()> {
        let page = page.split_once('#').map_or(page, |(_, page)| page);
        Ok(self.client.goto(&format!("{}/#{page}", self.explorer)).await?)
    }

    /// Waits until something is on the page.
    async fn sees(&self, css: &str) -> Result<Element> {
        let found = self.client.wait().at_most(LIMIT).for_element(Locator::Css(css)).await;
        found.with_context(|| format!("the page does not show {css}"))
    }

    /// Gives the verifying page a file.
    async fn chooses(&self, file: &Path) -> Result<()> {
        let input = self.sees("[data-testid=verify-file]").await?;
        Ok(input.send_keys(&file.display().to_string()).await?)
    }

    async fn screenshot(&self, name: &str) -> Result<()> {
        let png = self.client.screenshot().await?;
        Ok(fs::write(self.screenshots.join(format!("{name}.png")), png)?)
    }

    /// What the pages and the browser said.
    async fn console(&self) -> Result<Vec<Value>> {
        let log = self.client.issue_cmd(ConsoleLog).await?;
        Ok(log.as_array().cloned().unwrap_or_default())
    }

    /// Fails when something on the way was an error to the browser.
    async fn no_errors(&self) -> Result<()> {
        let mut errors = self.console().await?;
        errors.retain(|line| line["level"] == "SEVERE");
        ensure!(errors.is_empty(), "errors in the console: {errors:#?}");
        Ok(())
    }
}

/// Chromium's own command for what is in its console.
#[derive(Debug)]
struct ConsoleLog;

impl WebDriverCompatibleCommand for ConsoleLog {
    fn endpoint(&self, base: &Url, session: Option<&str>) -> Result<Url, <Url as FromStr>::Err> {
        base.join(&format!("session/{}/se/log", session.unwrap_or_default()))
    }

    fn method_and_body(&self, _: &Url) -> (Method, Option<String>) {
        (Method::POST, Some(json!({"type": "browser"}).to_string()))
    }
}
