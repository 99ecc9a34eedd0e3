import type { RevocationPolicy } from '../certs/revocation.ts'
import type { PcrTable } from '../pcr_table.ts'
import type { ReferenceSet } from '../pcrs.ts'
import type { Verdict } from '../verdict.ts'

/** A kind of evidence: one file, and one line in `index.ts`. */
export type Format = {
  /** as operators write it */
  readonly name: string
  readonly title: string
  /** Judges evidence that brings its own endorsement along. Absent where keys are enrolled first. */
  readonly document?: (document: Uint8Array, expected: ExpectedDocument) => Promise<Verdict<DocumentClaims>>
}

/** What was asked for, and whom we trust: nothing in here comes from the document. */
export type ExpectedDocument = {
  /** `qualifyingData(nonce, request)`, which the document has to carry */
  readonly binding: Uint8Array
  readonly at: Date
  /** DER of the roots that the operator pinned for this format; the same array means the same roots */
  readonly anchors: readonly Uint8Array[]
  readonly revocation?: RevocationPolicy
  readonly lists?: readonly Uint8Array[]
  /** the machine has to match one of them, whole */
  readonly references: readonly ReferenceSet[]
  /** how old the document may be by its own clock */
  readonly maxAgeSeconds: number
  /** whether machines that others may look into are accepted: for development alone */
  readonly allowDebug: boolean
}

/** What an accepted document says. */
export type DocumentClaims = {
  /** whose it is, in the words of the format: letters, digits, dots and dashes */
  readonly machine: string
  readonly madeAt: Date
  readonly pcrs: PcrTable
  /** whether others may look into the machine */
  readonly debug: boolean
  /** the names of the sets of reference values that it matches */
  readonly references: readonly string[]
  /** what the machine put into it: at most one key, and some bytes */
  readonly publicKey?: Buffer
  readonly userData?: Buffer
}
