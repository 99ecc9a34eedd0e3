import type { AkKind, EkKind } from './kinds.ts'

/** What commander makes of the flags that every command has. */
export type CommonOptions = {
  readonly address?: string
  readonly caFile?: string
  readonly clientCert?: string
  readonly clientKey?: string
  readonly deadline: number
  readonly mount: string
}
export type TpmOptions = {
  readonly tpm?: string
  readonly ek: EkKind
  readonly ak: AkKind
  readonly endorsementAuthFile?: string
}
/** of the key to bind; its certificate is of use where a quote is sent */
export type KeyOptions = { readonly key?: string; readonly keyCertificate?: string }
/** of what is sent with a quote */
export type LogOptions = { readonly eventLog?: string; readonly imaLog?: string }
export type PrintOptions = { readonly json?: true; readonly field?: string }

export type EnrollOptions = CommonOptions &
  TpmOptions &
  PrintOptions & {
    readonly ekCertificate?: string
    readonly intermediate: readonly string[]
    readonly tokenFile?: string
    readonly wait?: number
  }

export type LoginOptions = CommonOptions &
  TpmOptions &
  KeyOptions &
  LogOptions &
  PrintOptions & { readonly role: string; readonly audience?: string; readonly bind: boolean; readonly tokenFile?: string }

export type EvidenceOptions = Omit<LoginOptions, 'tokenFile' | keyof PrintOptions> & { readonly out?: string }

/** of `creds` and `exec` */
export type AskOptions = CommonOptions &
  TpmOptions &
  KeyOptions &
  LogOptions & {
    readonly role?: string
    readonly broker: string
    readonly plugin?: string
    readonly action?: string
    readonly scope: readonly string[]
    readonly parameter: Readonly<Record<string, string>>
    readonly audience?: string
    readonly ttl?: string
    readonly bind: boolean
    readonly attest?: true
    readonly taskTokenFile?: string
    readonly tokenFile?: string
  }
export type CredsOptions = AskOptions & PrintOptions & { readonly chain?: true }
export type ExecOptions = AskOptions &
  ProxyOptions & { readonly json?: true; readonly chain?: true; readonly fd: number; readonly env?: string }
/** of a command that goes out through the proxy */
export type ProxyOptions = {
  readonly proxy?: string
  readonly proxyCa?: string
  readonly interceptCa?: string
  readonly postgres?: number
  readonly ssh?: number
  readonly baseUrl: Readonly<Record<string, string>>
}
export type DpopOptions = TpmOptions &
  KeyOptions & { readonly deadline: number; readonly credentialFile?: string; readonly nonce?: string }
export type PcrsOptions = TpmOptions & {
  readonly deadline: number
  readonly bank: 'sha256' | 'sha384' | 'sha512'
  readonly pcr: readonly number[]
}
export type KeyCommandOptions = TpmOptions & {
  readonly deadline: number
  readonly certificate?: string
  readonly request?: string
  readonly name: string
  readonly days: number
}
