// Keeps the panel up to date while it is open. The shop does without.
const panel = document.getElementById("panel");

async function refresh() {
  if (!panel.open || document.hidden) return;
  const answer = await fetch("/received");
  if (!answer.ok) return;
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  const body = page.getElementById("panel-body");
  const shown = document.getElementById("panel-body");
  if (body && !shown.contains(document.activeElement)) shown.replaceWith(body);
}

panel.addEventListener("toggle", refresh);
setInterval(refresh, 2000);
