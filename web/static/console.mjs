// What the pages do better with a script. Every page works without this file.

/** Times in the reader's own zone. */
for (const time of document.querySelectorAll('time[datetime]')) {
  const at = new Date(time.dateTime);
  if (Number.isNaN(at.getTime())) continue;
  time.title = time.textContent;
  time.textContent = at.toLocaleString(undefined, { dateStyle: 'medium', timeStyle: 'short' });
}

/** `<button data-copy="id">`: copies the text of the element with that id. */
for (const button of document.querySelectorAll('button[data-copy]')) {
  button.hidden = false;
  button.addEventListener('click', async () => {
    const source = document.getElementById(button.dataset.copy);
    const said = button.textContent;
    try {
      await navigator.clipboard.writeText(source.value ?? source.textContent);
      button.textContent = 'Copied';
    } catch {
      getSelection().selectAllChildren(source);
      button.textContent = 'Press Ctrl+C';
    }
    setTimeout(() => (button.textContent = said), 1500);
  });
}

/** `<section id="x" data-refresh="10">`: fetched anew every so many seconds, while the page is looked at. */
for (const part of document.querySelectorAll('[data-refresh]')) {
  const refresh = async () => {
    const open = [...part.querySelectorAll('details')].some((details) => details.open);
    if (document.visibilityState !== 'visible' || open || part.contains(document.activeElement)) return;
    try {
      const answer = await fetch(location.href, { headers: { accept: 'text/html' } });
      if (!answer.ok || answer.redirected) return;
      const page = new DOMParser().parseFromString(await answer.text(), 'text/html');
      const fresh = page.getElementById(part.id);
      if (fresh) part.replaceChildren(...fresh.childNodes);
    } catch {
      // The server is restarting or the network is away; the next turn may do.
    }
  };
  setInterval(refresh, Number(part.dataset.refresh) * 1000);
}
