//! Runs the commands of README.md as they stand there, so that what a newcomer types is known to work.
//!
//! A fenced block says by a second word behind its language what it is for. `sh run` starts the gateway and
//! keeps running; `sh try` is typed beside it and must succeed; `sh test` must be a step of `.ci/run`. Blocks
//! without a second word are not run.

use std::{
    fs,
    io::{Read, Write},
    net::{Ipv4Addr, TcpStream},
    os::unix::process::CommandExt,
    path::Path,
    process::{Child, Command},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};

/// The admin port that the gateway has unless it is told otherwise.
const ADMIN: u16 = 1064;

/// Long enough to build the gateway from nothing on a small machine.
const PATIENCE: Duration = Duration::from_secs(45 * 60);

/// How often readiness is asked for.
const PAUSE: Duration = Duration::from_millis(200);

/// Runs the commands of the README below `root`.
pub(crate) fn run(root: &Path, out: &mut impl Write) -> Result<()> {
    let page = fs::read_to_string(root.join("README.md")).context("cannot read README.md")?;
    let steps = fs::read_to_string(root.join(".ci/run")).context("cannot read .ci/run")?;
    let of = |role: &'static str| blocks(&page).into_iter().filter(move |block| block.role == role);
    let tests: Vec<Block> = of("test").collect();
    ensure!(!tests.is_empty(), "README.md has no block `sh test`");
    for block in tests {
        ensure!(
            steps.contains(&block.text),
            "README.md:{}: .ci/run has no such step",
            block.line
        );
    }
    let gateway = of("run").next().context("README.md has no block `sh run`")?;
    ensure!(
        get(ADMIN, "/ready").is_err(),
        "something else answers on port {ADMIN}"
    );
    writeln!(out, "README.md:{}: {}", gateway.line, gateway.text)?;
    let mut running = Running::start(root, &gateway.text)?;
    running.wait_until_ready()?;
    for block in of("try") {
        writeln!(out, "README.md:{}: {}", block.line, block.text)?;
        let status = shell(root, &block.text)?.status().context("cannot run bash")?;
        ensure!(status.success(), "README.md:{}: {status}", block.line);
    }
    Ok(())
}

/// A fenced block that has a role.
#[derive(Debug, PartialEq, Eq)]
struct Block {
    /// The word behind the language.
    role: String,
    /// What is in it.
    text: String,
    /// Where it begins, from 1.
    line: usize,
}

fn blocks(page: &str) -> Vec<Block> {
    let mut found = Vec::new();
    let mut open: Option<Block> = None;
    for (line, text) in page.lines().enumerate() {
        match (text.strip_prefix("```"), &mut open) {
            (Some(_), Some(_)) => found.extend(open.take().filter(|block| !block.role.is_empty())),
            (Some(info), None) => {
                let role = info.strip_prefix("sh ").unwrap_or_default().trim().to_owned();
                open = Some(Block {
                    role,
                    text: String::new(),
                    line: line + 1,
                });
            }
            (None, Some(block)) => {
                if !block.text.is_empty() {
                    block.text.push('\n');
                }
                block.text.push_str(text);
            }
            (None, None) => {}
        }
    }
    found
}

/// The gateway, ended with everything it started when this is dropped.
struct Running(Child);

impl Running {
    fn start(root: &Path, command: &str) -> Result<Self> {
        let child = shell(root, command)?
            .process_group(0)
            .spawn()
            .context("cannot run bash")?;
        Ok(Self(child))
    }

    fn wait_until_ready(&mut self) -> Result<()> {
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE {
            if get(ADMIN, "/ready").is_ok_and(|reply| reply.starts_with("HTTP/1.1 200")) {
                return Ok(());
            }
            if let Some(status) = self.0.try_wait()? {
                bail!("the gateway ended before it was ready: {status}");
            }
            pause();
        }
        bail!("the gateway was not ready within {} s", PATIENCE.as_secs())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let group = format!("-{}", self.0.id());
        let _ = Command::new("kill").args(["-TERM", "--", &group]).status();
        let _ = self.0.wait();
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "nothing tells another process when a port answers"
)]
fn pause() {
    thread::sleep(PAUSE);
}

/// Returns bash with `commands`, in which curl fails when the server says that it did.
fn shell(root: &Path, commands: &str) -> Result<Command> {
    let settings = root.join("target/readme");
    fs::create_dir_all(&settings).context("cannot make target/readme")?;
    fs::write(settings.join(".curlrc"), "fail-with-body\nsilent\nshow-error\n")
        .context("cannot write .curlrc")?;
    let mut bash = Command::new("bash");
    bash.args(["-euo", "pipefail", "-c", commands])
        .current_dir(root)
        .env("CURL_HOME", &settings);
    Ok(bash)
}

/// Returns the reply, head and body, to `GET path` on `port` of this machine.
fn get(port: u16, path: &str) -> Result<String> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"
    )?;
    let mut reply = String::new();
    stream.take(64 * 1024).read_to_string(&mut reply)?;
    Ok(reply)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_have_roles() {
        let page =
            "# A\n```sh run\na \\\n  b\n```\ntext\n```sh\nc\n```\n```json try\n{}\n```\n```sh try\nd\n```\n";
        let block = |role: &str, text: &str, line| Block {
            role: role.to_owned(),
            text: text.to_owned(),
            line,
        };
        assert_eq!(
            blocks(page),
            [block("run", "a \\\n  b", 2), block("try", "d", 13)]
        );
    }
}
