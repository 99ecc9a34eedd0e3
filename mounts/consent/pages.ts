import { createHash } from 'node:crypto'
import { html, raw } from 'hono/html'
import type { ConsentView } from '#engine'

type Html = ReturnType<typeof html>

const CSS = `
:root { color-scheme: light dark; --edge: light-dark(#d5d9e0, #3a3f4a); --quiet: light-dark(#586074, #a3abbd); --go: #1f6f43 }
body { margin: 0; font: 16px/1.5 system-ui, sans-serif; background: light-dark(#f4f5f7, #16181d) }
main { max-width: 34rem; margin: 8vh auto; padding: 2rem; background: light-dark(#fff, #1f2229); border: 1px solid var(--edge); border-radius: 12px }
h1 { font-size: 1.35rem; margin: 0 0 .5rem }
p, dt { color: var(--quiet) }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .5rem 1.25rem; margin: 1.5rem 0; padding: 1rem 0; border-block: 1px solid var(--edge) }
dd { margin: 0; overflow-wrap: anywhere }
.code { font: 600 1.25rem ui-monospace, monospace; letter-spacing: .08em }
form { display: flex; gap: .75rem; justify-content: flex-end }
button { font: inherit; padding: .55rem 1.4rem; border-radius: 8px; border: 1px solid var(--edge); background: none; color: inherit; cursor: pointer }
button[value=allow] { background: var(--go); border-color: var(--go); color: #fff }
`
const STYLE_HASH = createHash('sha256').update(CSS).digest('base64')

/** What the browser may do with a page of ours: show it with its own style, nowhere inside another page, and send its form here alone. Chromium holds every
 *  redirect of a form's answer to `form-action`, those of the identity provider too: so nobody is sent on by a redirect. */
export const PAGE_HEADERS: Readonly<Record<string, string>> = {
  'Content-Security-Policy': [
    "default-src 'none'",
    `style-src 'sha256-${STYLE_HASH}'`,
    "form-action 'self'",
    "base-uri 'none'",
    "frame-ancestors 'none'",
  ].join('; '),
  'Cache-Control': 'no-store',
  'Cross-Origin-Opener-Policy': 'same-origin',
  'Referrer-Policy': 'no-referrer',
  'X-Content-Type-Options': 'nosniff',
  'X-Frame-Options': 'DENY',
}

function page(title: string, body: Html | Promise<Html>, head: Html | Promise<Html> | '' = '') {
  return html`<!doctype html>
<html lang="en">
  <head>
    <meta charset="utf-8" />
    <meta name="viewport" content="width=device-width, initial-scale=1" />
    <title>${title}</title>
    ${head}
    <style>${raw(CSS)}</style>
  </head>
  <body>
    <main>${body}</main>
  </body>
</html>`
}

/** Who asks, for what, for how long; and the two ways out. `proof` ties the form to the browser that it was shown in. */
export function askPage({ wish, userCode, provider, consentSeconds }: ConsentView, proof: string) {
  return page(
    'A program asks for your consent',
    html`<h1>A program asks to act in your name</h1>
<p>If you allow it you go on to <strong>${provider}</strong> to sign in. The program never sees your password, and the access it gets works only
from its own machine.</p>
<dl>
  <dt>Code</dt><dd class="code">${userCode}</dd>
  <dt>Program</dt><dd>${wish.plugin}</dd>
  <dt>Wants to</dt><dd>${wish.action}</dd>
  <dt>Access</dt><dd>${wish.scope.length > 0 ? wish.scope.join(', ') : 'none in particular'}</dd>
  <dt>On</dt><dd>${wish.audience}</dd>
  <dt>For</dt><dd>${spoken(wish.ttlSeconds)} at a time, again and again for ${spoken(consentSeconds)}</dd>
  ${taskRows(wish)}
  <dt>Machine</dt><dd>${wish.tpmId}</dd>
</dl>
<p>Allow it only if you started this yourself and the code is the one that the program shows you.</p>
<form method="post">
  <input type="hidden" name="proof" value="${proof}" />
  <button name="decision" value="deny">Deny</button>
  <button name="decision" value="allow">Allow</button>
</form>`,
  )
}

/** On whose behalf, where an orchestrator signed it. */
function taskRows({ task }: ConsentView['wish']) {
  const rows = { Organisation: task?.org, Task: task?.task, 'Asked by': task?.user }
  return Object.entries(rows).map(([name, value]) => (value ? html`<dt>${name}</dt><dd>${value}</dd>` : ''))
}

/** Leads on to the identity provider: by itself, and by a link where a browser does not go by itself. It takes the place of the form's answer in the history,
 *  so that who goes back comes to the page before it and sends nothing twice. */
export function onwardPage({ host, href }: URL) {
  return page(
    'On to sign in',
    html`<h1>On to ${host}</h1><p>You sign in there. If nothing happens, <a href="${href}">go on to ${host}</a>.</p>`,
    html`<meta http-equiv="refresh" content="0; url=${href}" />`,
  )
}

const ENDS = {
  granted: ['Done', 'The program may go on. You can close this window.'],
  denied: ['Denied', 'The program gets nothing. You can close this window.'],
  sent: [
    'Not finished yet',
    'This was allowed, and led on to sign in: go forward in this browser to finish there, or start again from the program.',
  ],
  failed: ['It did not work', 'Nothing was granted. Start again from the program.'],
  gone: ['Nothing to decide here', 'This was answered already, or it took too long. Start again from the program.'],
} as const
export type End = keyof typeof ENDS

export function endPage(end: End) {
  const [title, words] = ENDS[end]
  return page(title, html`<h1>${title}</h1><p>${words}</p>`)
}

const UNITS = [
  ['day', 86_400],
  ['hour', 3600],
  ['minute', 60],
] as const

/** `5400` is "90 minutes": whole minutes, rounded up, in the largest unit that says them exactly. */
function spoken(seconds: number): string {
  const whole = Math.ceil(seconds / 60) * 60
  const [unit, size] = UNITS.find(([, each]) => whole % each === 0) ?? UNITS[2]
  const count = whole / size
  return `${count} ${unit}${count === 1 ? '' : 's'}`
}
