import { inspect } from 'node:util'

export const PRINTED = '[secret]'

/** A value that cannot be printed: every way of turning it into text gives `[secret]`. `reveal` is the one way out, so that a search finds each use. */
export class Secret<T = string> {
  readonly #value: T

  constructor(value: T) {
    this.#value = value
  }

  reveal(): T {
    return this.#value
  }

  toString(): string {
    return PRINTED
  }

  toJSON(): string {
    return PRINTED
  }

  [inspect.custom](): string {
    return PRINTED
  }
}
