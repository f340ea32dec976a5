//! Programs that people use, unchanged, against one network.

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use glassbloom_e2e::{
    network::{MODEL, Part, Plan},
    tasks::{node, python},
};
use glassbloom_testdata::{repository, skipped};

use crate::{
    bed::{Bed, Ran, Steps, audit, run},
    browser,
    chat::{Receipt, answered_within, nothing_lost},
    offline,
};

#[tokio::test(flavor = "multi_thread")]
async fn one_network_serves_every_client() {
    let Some(bed) = Bed::start() else { return };
    let plan = bed.plan();
    let mut steps = Steps::default();
    steps.step("openai-python", openai_python(plan)).await;
    steps.step("openai-node", openai_node(plan)).await;
    steps.step("llm", llm(plan, &bed.at("llm"))).await;
    steps.step("curl", curl(plan)).await;
    steps.step("glassbloom run", glassbloom_run(plan)).await;
    steps.step("glassbloom ask", glassbloom_ask(plan, &bed.at("asked.glassbloom"))).await;
    let bundle = bed.at("exported.glassbloom");
    steps.step("glassbloom receipts", offline::receipts(plan, &bundle)).await;
    steps.step("glassbloom verify", offline::verify(plan, &bundle)).await;
    steps.step("the auditor, twice", audited_twice(plan)).await;
    steps.step("the explorer", browser::explorer(&bed, &bundle)).await;

    let plan = plan.clone();
    steps.step("stopping", async { tokio::task::block_in_place(|| bed.network.stop_all()) }).await;
    let _folder = bed.folder;
    steps.step("glassbloom verify with the network stopped", offline::verify_once(&plan, &bundle)).await;
    steps
        .step("the auditor with the network stopped", async {
            audit(&plan).await?.expect(40)?.says("problem").map(drop)
        })
        .await;
    steps
        .step("glassbloom ask with the network stopped", async {
            let mut ask = glassbloom(&plan);
            ask.args(["ask", "--model", MODEL, "Anyone?"]);
            run(ask).await?.expect(40)?.says("cargo up").map(drop)
        })
        .await;
    steps.end();
}

/// A script kept beside these tests.
fn script(name: &str) -> PathBuf {
    repository().join("testdata/e2e/clients").join(name)
}

/// The interpreter of the clients, which `cargo ci` installs.
fn python() -> Option<PathBuf> {
    let python = python::interpreter(&repository());
    if !python.is_file() {
        skipped("needs openai-python and llm in target/venv; `cargo ci` installs them");
        return None;
    }
    Some(python)
}

/// `glassbloom` for the network's user.
pub(crate) fn glassbloom(plan: &Plan) -> Command {
    let mut command = plan.command("glassbloom");
    command.arg("--data").arg(plan.data.join("proxy"));
    command
}

/// Points a client at the proxy, as `cargo up` says to.
fn point(client: &mut Command, plan: &Plan) -> Result<()> {
    client.env("OPENAI_BASE_URL", format!("{}/v1", plan.url(Part::Proxy)));
    client.env("OPENAI_API_KEY", plan.api_key()?);
    Ok(())
}

/// The receipts that a script printed, which must be in the log.
async fn receipts(plan: &Plan, ran: &Ran, count: usize) -> Result<()> {
    let lines = ran.out.lines().map(|line| Receipt::of(&serde_json::from_str(line)?));
    let receipts = lines.collect::<Result<Vec<Receipt>>>()?;
    ensure!(receipts.len() == count, "{ran}: not {count} receipts");
    nothing_lost(plan, &receipts).await
}

async fn openai_python(plan: &Plan) -> Result<()> {
    let Some(python) = python() else { return Ok(()) };
    let mut client = Command::new(python);
    point(client.arg(script("chat.py")), plan)?;
    receipts(plan, &run(client).await?.expect(0)?, 3).await
}

async fn openai_node(plan: &Plan) -> Result<()> {
    let folder = node::folder(&repository());
    if !folder.join("node_modules/openai").is_dir() {
        skipped("needs openai-node in target/node; `cargo ci` installs it");
        return Ok(());
    }
    let mut client = Command::new("node");
    point(client.arg(script("chat.mjs")).arg(folder), plan)?;
    receipts(plan, &run(client).await?.expect(0)?, 2).await
}

async fn llm(plan: &Plan, home: &Path) -> Result<()> {
    let Some(python) = python() else { return Ok(()) };
    std::fs::create_dir_all(home)?;
    let model = format!(
        "- model_id: bloom\n  model_name: {MODEL}\n  api_base: {}/v1\n  api_key_name: glassbloom\n",
        plan.url(Part::Proxy)
    );
    std::fs::write(home.join("extra-openai-models.yaml"), model)?;
    std::fs::write(home.join("keys.json"), serde_json::json!({"glassbloom": plan.api_key()?}).to_string())?;
    for how in [&[][..], &["--no-stream"]] {
        let mut llm = Command::new(python.with_file_name("llm"));
        llm.env("LLM_USER_PATH", home).args(["--model", "bloom", "What is the capital of France?"]).args(how);
        run(llm).await?.expect(0)?.says("Paris")?;
    }
    Ok(())
}

async fn curl(plan: &Plan) -> Result<()> {
    let body = serde_json::json!({
        "model": MODEL,
        "messages": [{"role": "user", "content": "What is the capital of France?"}],
        "stream": true,
    });
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--show-error", "--no-buffer", "--fail", "--noproxy", "*"])
        .arg(format!("{}/v1/chat/completions", plan.url(Part::Proxy)))
        .args(["--header", "content-type: application/json", "--header"])
        .arg(format!("authorization: Bearer {}", plan.api_key()?))
        .args(["--data", &body.to_string()]);
    let ran = run(curl).await?.expect(0)?;
    let events: Vec<&str> = ran.out.split("\n\n").filter_map(|event| event.strip_prefix("data: ")).collect();
    let [.., proof, done] = events[..] else { anyhow::bail!("{ran}: too few events") };
    ensure!(done == "[DONE]", "{ran}: ends with {done}");
    let proof: serde_json::Value = serde_json::from_str(proof)?;
    ensure!(proof["choices"] == serde_json::json!([]), "{proof}");
    nothing_lost(plan, &[Receipt::of(&proof["glassbloom"])?]).await
}

async fn glassbloom_run(plan: &Plan) -> Result<()> {
    let mut shell = glassbloom(plan);
    shell.args(["run", "--", "sh", "-c", "echo $OPENAI_BASE_URL $OPENAI_API_KEY; exit 7"]);
    let said = format!("{}/v1 {}", plan.url(Part::Proxy), plan.api_key()?);
    run(shell).await?.expect(7)?.says(&said)?;

    let Some(python) = python() else { return Ok(()) };
    let mut program = glassbloom(plan);
    program.args(["run", "--"]).arg(python).arg(script("once.py"));
    run(program).await?.expect(0)?.says("Paris").map(drop)
}

async fn glassbloom_ask(plan: &Plan, saved: &Path) -> Result<()> {
    let mut ask = glassbloom(plan);
    ask.args(["ask", "--model", MODEL, "--save"]).arg(saved).arg("What is the capital of France?");
    run(ask).await?.expect(0)?.says("Paris")?.says("receipt logged")?;
    offline::verify_once(plan, saved).await?;
    let mut ask = glassbloom(plan);
    ask.args(["ask", "--model", "no-such-model", "Anyone?"]);
    run(ask).await?.expect(10)?.says("no-such-model").map(drop)
}

async fn audited_twice(plan: &Plan) -> Result<()> {
    audit(plan).await?.expect(0)?.says("no findings")?;
    let mut again = audit(plan).await?.expect(0)?;
    // An epoch may have ended in between, with its batch of challenges; not twice within its five minutes.
    if again.out.matches("  0 new entries").count() != 2 {
        again = audit(plan).await?.expect(0)?;
    }
    ensure!(again.out.matches("  0 new entries").count() == 2, "{again}: does old work again");
    answered_within(plan, Duration::from_secs(30)).await.context("one more answer")?;
    let then = audit(plan).await?.expect(0)?;
    ensure!(then.out.contains("  1 new entry  "), "{then}: not only the new entry");
    Ok(())
}
