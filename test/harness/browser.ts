import { existsSync } from 'node:fs'
import { type BrowserContext, chromium } from 'playwright-core'
import { PATIENCE_MS } from './patience.ts'

const PLACES = ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome']

/** A headless Chromium with a profile of its own. Disposing of it ends it. */
export async function openBrowser(): Promise<AsyncDisposable & { readonly context: BrowserContext }> {
  const executablePath = PLACES.find(place => existsSync(place))
  if (!executablePath) throw new Error('there is no Chromium: ./scripts/test installs it')
  // the sandbox of Chromium does not start for root
  const browser = await chromium.launch({
    executablePath,
    args: ['--no-sandbox', '--disable-dev-shm-usage'],
    timeout: PATIENCE_MS,
  })
  const context = await browser.newContext()
  context.setDefaultTimeout(PATIENCE_MS)
  return { context, [Symbol.asyncDispose]: () => browser.close() }
}
