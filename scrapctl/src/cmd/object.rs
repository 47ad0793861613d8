//! `get`, `edit` and `explain`: objects of any kind in the form of manifests.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use scrap_schema::api::{GrainView, MetadataView, NetworkView, NodeView, PolicyView};
use scrap_schema::id::Name;
use scrap_schema::manifest::schema::{self, Explanation};
use scrap_schema::manifest::{Manifest, ManifestKind, Metadata};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::names::Noun;
use super::{Ctx, manifest, show};
use crate::cli::{EditArgs, GetArgs, Kind, Output};
use crate::client::call::Call;
use crate::failure::Failure;
use crate::render::grid::Grid;
use crate::render::text::Theme;
use crate::render::{grains, networks, nodes, policies};

/// Something with a manifest.
trait Object: Serialize + DeserializeOwned {
    const NOUN: Noun;
    fn grid(all: &[Self], theme: Theme) -> Grid;
    fn manifest(&self) -> Manifest;
}

impl Object for GrainView {
    const NOUN: Noun = Noun::Grain;
    fn grid(all: &[Self], theme: Theme) -> Grid {
        grains::grid(all, theme)
    }
    fn manifest(&self) -> Manifest {
        bare(&self.metadata, ManifestKind::Grain(self.spec.clone()))
    }
}

impl Object for NodeView {
    const NOUN: Noun = Noun::Node;
    fn grid(all: &[Self], theme: Theme) -> Grid {
        nodes::grid(all, theme)
    }
    fn manifest(&self) -> Manifest {
        bare(&self.metadata, ManifestKind::Node(self.spec.clone()))
    }
}

impl Object for PolicyView {
    const NOUN: Noun = Noun::Policy;
    fn grid(all: &[Self], theme: Theme) -> Grid {
        policies::grid(all, theme)
    }
    fn manifest(&self) -> Manifest {
        bare(&self.metadata, ManifestKind::Policy(self.spec.clone()))
    }
}

impl Object for NetworkView {
    const NOUN: Noun = Noun::Network;
    fn grid(all: &[Self], theme: Theme) -> Grid {
        networks::grid(all, theme)
    }
    fn manifest(&self) -> Manifest {
        bare(&self.metadata, ManifestKind::Network(self.spec.clone()))
    }
}

/// What a person can write of an object.
fn bare(view: &MetadataView, kind: ManifestKind) -> Manifest {
    let metadata = Metadata {
        name: view.name.clone(),
        labels: view.labels.clone(),
        annotations: view.annotations.clone().into_iter().collect::<BTreeMap<_, _>>(),
    };
    Manifest { metadata, kind, line: 1 }
}

/// Prints objects.
pub(crate) async fn get(ctx: &Ctx, args: &GetArgs) -> Result<(), Failure> {
    match args.kind {
        Kind::Grain => get_kind::<GrainView>(ctx, args).await,
        Kind::Node => get_kind::<NodeView>(ctx, args).await,
        Kind::Policy => get_kind::<PolicyView>(ctx, args).await,
        Kind::Network => get_kind::<NetworkView>(ctx, args).await,
    }
}

async fn get_kind<T: Object>(ctx: &Ctx, args: &GetArgs) -> Result<(), Failure> {
    let noun = T::NOUN;
    let objects: Vec<T> = match &args.name {
        Some(name) => {
            let read = ctx.read(Call::get(&[noun.plural(), name.as_str()])).await;
            vec![ctx.named(read, &[(noun, name)]).await?]
        }
        None => ctx.read(Call::get(&[noun.plural()])).await?,
    };
    if args.bare {
        let manifests: Vec<Manifest> = objects.iter().map(Object::manifest).collect();
        return print(ctx, args, &manifests, |theme| T::grid(&objects, theme));
    }
    print(ctx, args, &objects, |theme| T::grid(&objects, theme))
}

/// One object as itself, a list as a list; in YAML each as a document, so that it can be split.
fn print<S: Serialize>(
    ctx: &Ctx,
    args: &GetArgs,
    items: &[S],
    grid: impl FnOnce(Theme) -> Grid,
) -> Result<(), Failure> {
    match (ctx.settings.output, items) {
        (Output::Json, [only]) if args.name.is_some() => show::json(ctx, only),
        (Output::Yaml, _) => show::yaml_documents(ctx, items),
        // Without a form, the manifests that were asked for are YAML.
        (Output::Table | Output::Wide, _) if args.bare => show::yaml_documents(ctx, items),
        (Output::Table | Output::Wide | Output::Json | Output::Name | Output::Csv, _) => {
            show::list(ctx, items, grid, &args.list, "there are none")
        }
    }
}

/// Changes an object in an editor.
pub(crate) async fn edit(ctx: &Ctx, args: &EditArgs) -> Result<(), Failure> {
    match args.kind {
        Kind::Grain => edit_kind::<GrainView>(ctx, &args.name).await,
        Kind::Node => edit_kind::<NodeView>(ctx, &args.name).await,
        Kind::Policy => edit_kind::<PolicyView>(ctx, &args.name).await,
        Kind::Network => edit_kind::<NetworkView>(ctx, &args.name).await,
    }
}

async fn edit_kind<T: Object>(ctx: &Ctx, name: &Name) -> Result<(), Failure> {
    let noun = T::NOUN;
    let path = [noun.plural(), name.as_str()];
    let reply = ctx.named(ctx.client.send(&Call::get(&path)).await, &[(noun, name)]).await?;
    let before = reply.json::<T>()?.manifest();
    let etag = reply.etag.unwrap_or_default();
    let file = scratch(noun, name, &show::to_yaml(&before)?)?;
    run_editor(ctx, &file)?;
    match change(&path, &etag, &before, &file) {
        Ok(None) => {
            drop(std::fs::remove_file(&file));
            ctx.print.note("nothing was changed");
            Ok(())
        }
        Ok(Some(call)) => {
            let sent = ctx.client.send(&call).await.map(drop);
            kept(ctx, sent, &file)?;
            drop(std::fs::remove_file(&file));
            ctx.print.note(&format!("{} {name} is changed", noun.word()));
            Ok(())
        }
        Err(failure) => kept(ctx, Err(failure), &file),
    }
}

/// A refusal must not cost the work: the file stays, and the person is told where.
fn kept(ctx: &Ctx, result: Result<(), Failure>, file: &Path) -> Result<(), Failure> {
    if result.is_err() {
        let file = file.display();
        ctx.print
            .err(&format!("your text is kept in {file}; apply it with: scrapctl apply -f {file}"));
    }
    result
}

/// The request that makes the change, if there is one.
fn change(
    path: &[&str],
    etag: &str,
    before: &Manifest,
    file: &PathBuf,
) -> Result<Option<Call>, Failure> {
    let manifests = manifest::read(std::slice::from_ref(file), false)?;
    let [after] = <[Manifest; 1]>::try_from(manifests)
        .map_err(|all| Failure::usage(format!("one manifest is wanted, not {}", all.len())))?;
    if after.kind.name() != before.kind.name() || after.metadata.name != before.metadata.name {
        return Err(Failure::usage("kind and name cannot be changed"));
    }
    if after.kind == before.kind && after.metadata == before.metadata {
        return Ok(None);
    }
    Ok(Some(Call::put(path, etag).json(&after)))
}

/// A file that only this person can read, with a name that nobody can foresee.
fn scratch(noun: Noun, name: &Name, text: &str) -> Result<PathBuf, Failure> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let unique = uuid::Uuid::now_v7().simple();
    let path = std::env::temp_dir().join(format!("scrap-{}-{name}-{unique}.yaml", noun.word()));
    std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&path)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(|source| Failure::File { what: "cannot write", path: path.clone(), source })?;
    Ok(path)
}

/// The editor's command may have arguments, divided by spaces; it is never given to a shell.
fn run_editor(ctx: &Ctx, file: &Path) -> Result<(), Failure> {
    let editor = ctx.settings.environment.editor.as_deref().unwrap_or("vi");
    let mut words = editor.split_whitespace();
    let program = words.next().unwrap_or("vi");
    let failed = |reason: String| Failure::Local {
        message: format!("the editor `{editor}` {reason}; your text is in {}", file.display()),
        hint: Some("set VISUAL or EDITOR to the editor that you want".to_owned()),
    };
    let status = Command::new(program)
        .args(words)
        .arg(file)
        .status()
        .map_err(|error| failed(format!("cannot be started: {error}")))?;
    if status.success() { Ok(()) } else { Err(failed(format!("ended with {status}"))) }
}

/// Explains a field.
pub(crate) fn explain(ctx: &Ctx, field: &str) -> Result<(), Failure> {
    let explanation = schema::explain(field)
        .map_err(|error| Failure::Usage { message: error.detail, hint: Some(error.hint) })?;
    let text = |_: Theme| Explanation::to_string(&explanation);
    show::text(ctx, &explanation, text)
}

#[cfg(test)]
mod tests;
