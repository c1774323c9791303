//! `larder config check`, `show` and `schema`, and the reading of the configuration for `serve`.

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::json;

use super::NO;
use super::failure::Failure;
use super::output::{self, Output, plural};
use crate::config::{Config, Faults, FlagGiven, annotated, json_schema, show, show_json, suspicious};

/// Check, show and describe the configuration
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  larder config schema > larder.toml          every setting, with what it is for
  larder config check --config larder.toml    all errors at once; exits with 1 if there are any
  larder config show --config larder.toml     what is in effect, and where each value comes from

A flag overrides the environment (LARDER_MEMORY, LARDER_HTTP_LISTEN ..), which overrides the file.")]
pub struct ConfigCommand {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Say everything that is wrong with the configuration
    Check(ConfigArgs),
    /// Show the settings in effect, and where each comes from
    Show(ConfigArgs),
    /// Describe every setting: an annotated file, or with --json a JSON Schema
    Schema,
}

/// Where the configuration comes from.
#[derive(Clone, Debug, Default, Args)]
pub struct ConfigArgs {
    /// The configuration file [default: none, only defaults, environment and flags]
    #[arg(long, short, value_name = "FILE", env = "LARDER_CONFIG")]
    config: Option<PathBuf>,
    /// The folder for entries and the log; without one the cache is in memory only
    #[arg(long, value_name = "DIR")]
    data: Option<String>,
    /// Share entries and invalidations with all servers at this Redis or Valkey, such as redis://127.0.0.1:6379, or
    /// env:NAME for one that holds a password
    #[arg(long, value_name = "URL")]
    redis: Option<String>,
    /// Memory for entries, such as 256MiB
    #[arg(long, value_name = "SIZE")]
    memory: Option<String>,
    /// Where to serve HTTP, such as 127.0.0.1:7070
    #[arg(long, value_name = "ADDRESS")]
    http: Option<String>,
    /// Where to serve clients of Redis, such as 127.0.0.1:7379
    #[arg(long, value_name = "ADDRESS")]
    resp: Option<String>,
    /// The certificate (PEM) for HTTP and RESP, which then speak TLS
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_certificate: Option<String>,
    /// Its key (PEM)
    #[arg(long, value_name = "FILE", requires = "tls_certificate")]
    tls_key: Option<String>,
    /// Allow addresses beyond this machine without access control and TLS
    #[arg(long)]
    insecure: bool,
}

impl ConfigArgs {
    /// A file and a data folder, without the rest.
    pub fn of(config: Option<PathBuf>, data: Option<String>) -> Self {
        ConfigArgs { config, data, ..ConfigArgs::default() }
    }

    fn flags(&self) -> Vec<FlagGiven> {
        let given = [
            ("data", "--data", &self.data),
            ("redis.url", "--redis", &self.redis),
            ("memory", "--memory", &self.memory),
            ("http.listen", "--http", &self.http),
            ("resp.listen", "--resp", &self.resp),
            ("tls.certificate", "--tls-certificate", &self.tls_certificate),
            ("tls.key", "--tls-key", &self.tls_key),
            ("insecure", "--insecure", &self.insecure.then(|| true.to_string())),
        ];
        let given = given.into_iter().filter_map(|(setting, flag, text)| Some((setting, flag, text.clone()?)));
        given.map(|(setting, flag, text)| FlagGiven { setting, flag, text }).collect()
    }

    /// Reads and checks.
    ///
    /// # Errors
    /// The failure when the file cannot be read; what is wrong with the configuration is the inner error.
    pub fn read(&self) -> Result<Result<Config, Faults>, Failure> {
        let text = self.config.as_ref().map(|path| {
            let unreadable = |error| {
                let hint = "larder config schema > FILE writes one with every setting in it";
                Failure::new(format!("{} cannot be read: {error}", path.display())).hint(hint)
            };
            fs::read_to_string(path).map(|text| (path.as_path(), text)).map_err(unreadable)
        });
        let text = text.transpose()?;
        let file = text.as_ref().map(|(path, text)| (*path, text.as_str()));
        Ok(Config::read(file, environment(), &self.flags()))
    }
}

/// The variables of the process that are text.
fn environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os().filter_map(|(name, text)| Some((name.into_string().ok()?, text.into_string().ok()?)))
}

/// Carries out `larder config`.
pub fn config(command: &ConfigCommand, out: Output) -> Result<ExitCode, Failure> {
    match &command.what {
        What::Check(args) => check(args, out),
        What::Show(args) => match args.read()? {
            Ok(config) => {
                let shown = if out.json { format!("{:#}", show_json(&config)) } else { show(&config).trim_end().to_owned() };
                output::line(&shown)?;
                Ok(ExitCode::SUCCESS)
            }
            Err(faults) => Err(unusable(&faults)),
        },
        What::Schema => {
            let text = if out.json { format!("{:#}", json_schema()) } else { annotated() };
            output::line(&text)?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// The failure of a command that needs a configuration without faults.
pub fn unusable(faults: &Faults) -> Failure {
    Failure::new(format!("the configuration has {}\n{faults}", plural(faults.0.len() as u64, "error")))
}

fn check(args: &ConfigArgs, out: Output) -> Result<ExitCode, Failure> {
    for (found, meant) in suspicious(environment()) {
        out.remark(&format!("larder: the environment has {found}, which is no setting; did you mean {meant}?"));
    }
    let faults = match args.read()? {
        Ok(_) => Vec::new(),
        Err(Faults(faults)) => faults,
    };
    let list: Vec<_> = faults.iter().map(|fault| json!({ "place": fault.place.to_string(), "message": fault.message })).collect();
    out.say(&json!({ "ok": faults.is_empty(), "errors": list }), || match faults.len() {
        0 => "the configuration is right".to_owned(),
        number => {
            let lines: Vec<String> = faults.iter().map(ToString::to_string).collect();
            format!("{}\n{}", lines.join("\n"), plural(number as u64, "error"))
        }
    })?;
    Ok(if faults.is_empty() { ExitCode::SUCCESS } else { NO.into() })
}
