//! `apply` and `diff`, and how manifests are read from files.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use scrap_schema::api::{ApplyView, OperationView};
use scrap_schema::manifest::{Manifest, ManifestKind, parse};
use scrap_schema::problem::{Exit, FieldError};

use super::{Ctx, operation, show};
use crate::cli::{ApplyArgs, DiffArgs, FilesArgs, Output};
use crate::client::call::Call;
use crate::failure::Failure;
use crate::render::changes;

/// Makes what the manifests say, as one change.
pub(crate) async fn apply(ctx: &Ctx, args: &ApplyArgs) -> Result<(), Failure> {
    let mut call = call(&args.files)?.query_if("checkIndex", args.check_index);
    if args.dry_run {
        call = call.query("dryRun", true);
    }
    let applied: ApplyView = ctx.client.value(&call).await?;
    let print = |applied: &ApplyView| {
        show::one(
            ctx,
            applied,
            |theme| changes::text(applied, args.dry_run, theme),
            |theme| changes::grid(applied, theme),
        )
    };
    let ids: Vec<_> = applied.items.iter().filter_map(|item| item.operation).collect();
    if args.dry_run || args.wait.no_wait || ids.is_empty() {
        return print(&applied);
    }
    if ctx.for_people() {
        print(&applied)?;
    }
    let mut begun: Vec<OperationView> = Vec::new();
    for id in ids {
        begun.push(ctx.client.value(&Call::get(&["operations", &id.to_string()])).await?);
    }
    if ctx.for_people() {
        return operation::finish(ctx, begun, args.wait).await;
    }
    // Programs read one answer: what changed. How it ended is in the exit status.
    let ended = operation::watch(ctx, begun).await;
    print(&applied)?;
    let bad: Vec<OperationView> = ended?.into_iter().filter(|it| !succeeded(it)).collect();
    if bad.is_empty() { Ok(()) } else { Err(Failure::Operations { operations: bad }) }
}

fn succeeded(operation: &OperationView) -> bool {
    use scrap_schema::operation::OperationState;
    match operation.state {
        OperationState::Succeeded => true,
        OperationState::Running | OperationState::Failed | OperationState::Cancelled => false,
    }
}

/// Shows what `apply` would change.
pub(crate) async fn diff(ctx: &Ctx, args: &DiffArgs) -> Result<(), Failure> {
    let call = call(&args.files)?.query("dryRun", true);
    let applied: ApplyView = ctx.client.value(&call).await?;
    match ctx.settings.output {
        Output::Table | Output::Wide => {
            ctx.print.out(&changes::diff(&applied, ctx.print.out_theme()))?;
        }
        Output::Json | Output::Yaml | Output::Name | Output::Csv => show::one(
            ctx,
            &applied,
            |theme| changes::diff(&applied, theme),
            |theme| changes::grid(&applied, theme),
        )?,
    }
    if applied.changed { Err(Failure::Status(Exit::Failed.code())) } else { Ok(()) }
}

fn call(files: &FilesArgs) -> Result<Call, Failure> {
    let manifests = read(&files.file, files.recursive)?;
    let prune = files.prune.as_ref().map(|(key, value)| format!("{key}={value}"));
    Ok(Call::post(&["apply"]).json(&manifests).query_if("prune", prune))
}

/// The one grain of a file.
pub(crate) fn only_grain(file: &Path) -> Result<Manifest, Failure> {
    let manifests = read(std::slice::from_ref(&file.to_owned()), false)?;
    let [manifest] = <[Manifest; 1]>::try_from(manifests).map_err(|all| {
        Failure::usage(format!("one grain is wanted, not {} manifests", all.len()))
    })?;
    match manifest.kind {
        ManifestKind::Grain(_) => Ok(manifest),
        ManifestKind::Policy(_) | ManifestKind::Node(_) | ManifestKind::Network(_) => {
            Err(Failure::usage(format!("a Grain is wanted, not a {}", manifest.kind.name())))
        }
    }
}

/// Reads all manifests of files, folders and stdin; all faults at once.
pub(crate) fn read(paths: &[PathBuf], recursive: bool) -> Result<Vec<Manifest>, Failure> {
    let mut manifests = Vec::new();
    let mut faults = Vec::new();
    let mut seen: BTreeMap<(&'static str, String), String> = BTreeMap::new();
    for (name, text) in texts(paths, recursive)? {
        match parse(&name, &text) {
            Ok(parsed) => {
                for manifest in parsed {
                    let key = (manifest.kind.name(), manifest.metadata.name.to_string());
                    let place = format!("{name}:{}", manifest.line);
                    if let Some(first) = seen.insert(key, place) {
                        faults.push((name.clone(), written_twice(&manifest, &first)));
                    }
                    manifests.push(manifest);
                }
            }
            Err(errors) => {
                let fields = errors.field_errors().into_iter();
                faults.extend(fields.map(|fault| (name.clone(), fault)));
            }
        }
    }
    if faults.is_empty() { Ok(manifests) } else { Err(Failure::Manifests { faults }) }
}

fn written_twice(manifest: &Manifest, first: &str) -> FieldError {
    let (kind, name) = (manifest.kind.name(), &manifest.metadata.name);
    FieldError {
        line: Some(manifest.line),
        ..FieldError::new("", format!("{kind} `{name}` is written twice, first in {first}"))
    }
}

fn texts(paths: &[PathBuf], recursive: bool) -> Result<Vec<(String, String)>, Failure> {
    let mut texts = Vec::new();
    for path in paths {
        if path.as_os_str() == "-" {
            let mut text = String::new();
            std::io::stdin()
                .read_to_string(&mut text)
                .map_err(|error| Failure::local(format!("cannot read stdin: {error}")))?;
            texts.push(("-".to_owned(), text));
        } else if path.is_dir() {
            let before = texts.len();
            folder(path, recursive, &mut texts)?;
            if texts.len() == before {
                let hint = (!recursive).then(|| "folders inside it are read with -R".to_owned());
                let message = format!("there is no .yaml, .yml or .json in `{}`", path.display());
                return Err(Failure::Usage { message, hint });
            }
        } else {
            texts.push(file(path)?);
        }
    }
    Ok(texts)
}

fn file(path: &Path) -> Result<(String, String), Failure> {
    let name = path.display().to_string();
    match std::fs::read_to_string(path) {
        Ok(text) => Ok((name, text)),
        Err(error) if error.kind() == std::io::ErrorKind::InvalidData => {
            let fault = FieldError::new("", "it is no text in UTF-8");
            Err(Failure::Manifests { faults: vec![(name, fault)] })
        }
        Err(source) => Err(Failure::File { what: "cannot read", path: path.to_owned(), source }),
    }
}

/// The manifests of a folder, by name, so that the order is the same everywhere.
fn folder(path: &Path, recursive: bool, texts: &mut Vec<(String, String)>) -> Result<(), Failure> {
    let failed = |source| Failure::File { what: "cannot read", path: path.to_owned(), source };
    let mut entries: Vec<PathBuf> = Vec::new();
    for entry in std::fs::read_dir(path).map_err(failed)? {
        entries.push(entry.map_err(failed)?.path());
    }
    entries.sort();
    for entry in entries {
        let hidden = entry.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
        if hidden {
            continue;
        }
        // A link to a folder could lead back here.
        let is_link = entry.symlink_metadata().is_ok_and(|meta| meta.is_symlink());
        if entry.is_dir() {
            if recursive && !is_link {
                folder(&entry, recursive, texts)?;
            }
        } else if entry.extension().is_some_and(|it| it == "yaml" || it == "yml" || it == "json") {
            texts.push(file(&entry)?);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
