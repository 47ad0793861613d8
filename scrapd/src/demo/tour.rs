//! t
use super::layout::Layout;
pub(super) async fn tour(_: &Layout) -> anyhow::Result<()> {
    Ok(())
}
