// What the console's pages do by themselves. No library but htmx; nothing is evaluated.
(() => {
  'use strict';

  const root = document.documentElement;
  const said = document.getElementById('said');

  // ── the live page ───────────────────────────────────────────────────────
  const wall = document.querySelector('[data-wall]');
  if (wall) {
    const SILENCE_MS = 7000; // three ticks of the console, and a little
    const AGAIN_MS = 5000;
    let connection = null;
    let timer = 0;

    const ended = () => root.dataset.link === 'ended';

    const after = (ms, what) => {
      clearTimeout(timer);
      timer = setTimeout(what, ms);
    };

    const tryAgain = () => {
      if (ended()) return;
      // A connection that is open and says nothing is ended, so that htmx opens the next.
      if (connection && connection.reader) connection.reader.cancel().catch(() => {});
      else wall.dispatchEvent(new CustomEvent('wall-again'));
      after(AGAIN_MS, tryAgain);
    };

    const lost = () => {
      if (ended()) return;
      root.dataset.link = 'lost';
      after(AGAIN_MS, tryAgain);
    };

    const heard = (event) => {
      connection = event.detail.connection;
      if (ended()) return;
      root.dataset.link = 'live';
      after(SILENCE_MS, () => { lost(); tryAgain(); });
    };

    const end = () => {
      root.dataset.link = 'ended';
      clearTimeout(timer);
    };

    wall.addEventListener('htmx:sse:after:message', heard);
    wall.addEventListener('htmx:sse:after:connection', (event) => { connection = event.detail.connection; });
    wall.addEventListener('htmx:sse:before:connection', (event) => {
      connection = event.detail.connection;
      if (ended()) event.preventDefault();
      else if (connection.attempt > 0) lost();
    });
    wall.addEventListener('htmx:sse:error', (event) => {
      if ([401, 403].includes(event.detail.status)) end();
      else lost();
    });
    wall.addEventListener('htmx:sse:close', () => { connection = null; lost(); });
    wall.addEventListener('htmx:response:error', (event) => {
      if ([401, 403].includes(event.detail.ctx.response.status)) end();
    });
    wall.addEventListener('session-ended', end);
    wall.addEventListener('tick', (event) => {
      for (const place of document.querySelectorAll('[data-tick]')) place.textContent = event.detail.data;
    });
    after(SILENCE_MS, () => { lost(); tryAgain(); });
  }

  // ── playing ─────────────────────────────────────────────────────────────
  const player = document.getElementById('player');
  if (player) {
    document.addEventListener('htmx:after:swap', (event) => {
      if (!player.querySelector('figure')) return;
      const clip = event.target.closest && event.target.closest('.clip');
      for (const other of document.querySelectorAll('.clip[data-playing]')) delete other.dataset.playing;
      if (clip) clip.dataset.playing = '';
      player.scrollIntoView({ block: 'nearest' });
    });
    // A session that ended, or a recording that is no longer ours to see: the page itself will say so.
    document.addEventListener('htmx:response:error', () => location.reload());
    // Footage is watched here; nothing of it is given out.
    document.addEventListener('contextmenu', (event) => {
      if (event.target.closest('[data-no-menu]')) event.preventDefault();
    });
  }

  // ── copying ─────────────────────────────────────────────────────────────
  const select = (element) => {
    const range = document.createRange();
    range.selectNodeContents(element);
    const selection = getSelection();
    selection.removeAllRanges();
    selection.addRange(range);
  };
  document.addEventListener('click', async (event) => {
    const button = event.target.closest('[data-copy]');
    if (!button) return;
    try {
      await navigator.clipboard.writeText(button.dataset.copy);
      button.dataset.copied = '';
      said.textContent = button.dataset.copy;
      setTimeout(() => { delete button.dataset.copied; }, 1500);
    } catch {
      select(button.parentElement); // no clipboard here: the text is marked, Ctrl-C takes it
    }
  });

  // ── the account menu closes like a menu ─────────────────────────────────
  const account = document.querySelector('.account');
  if (account) {
    document.addEventListener('click', (event) => {
      if (!account.contains(event.target)) account.open = false;
    });
    account.addEventListener('keydown', (event) => {
      if (event.key === 'Escape' && account.open) {
        account.open = false;
        account.querySelector('summary').focus();
      }
    });
  }
})();
