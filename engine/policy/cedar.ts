import { createRequire } from 'node:module'

export type Cedar = typeof import('@cedar-policy/cedar-wasm/nodejs')

/** What a call into Cedar gave, or why it gave nothing. */
export type Attempt<T> = { readonly ok: true; readonly value: T } | { readonly ok: false; readonly detail: string }

/** One instance of Cedar's WebAssembly module, loaded at its first call.
 *  A call that throws (a policy nested too deeply overflows the stack in the middle of a computation) leaves the instance's memory
 *  undefined: every later call would throw too, whatever it asks. So the instance goes with the call, and the next call gets a new one. */
export class Instance {
  readonly #load: () => Cedar
  #cedar: Cedar | undefined

  constructor(load: () => Cedar = loadCedar) {
    this.#load = load
  }

  attempt<T>(call: (cedar: Cedar) => T): Attempt<T> {
    try {
      this.#cedar ??= this.#load()
      return { ok: true, value: call(this.#cedar) }
    } catch (cause) {
      this.#cedar = undefined
      return { ok: false, detail: `cedar stopped: ${cause instanceof Error ? cause.message : 'unknown cause'}` }
    }
  }
}

/** Policies are checked in one instance and requests decided in another, so that a bad text never costs a decision anything. */
export const checker = new Instance()
export const decider = new Instance()

/** A new instance each time: the module keeps its state in module scope, so it must be evaluated again.
 *  The `require` is new too, because it remembers what it loaded and would keep old instances alive. */
function loadCedar(): Cedar {
  const require = createRequire(import.meta.url)
  delete require.cache[require.resolve('@cedar-policy/cedar-wasm/nodejs')]
  return require('@cedar-policy/cedar-wasm/nodejs') as Cedar
}
