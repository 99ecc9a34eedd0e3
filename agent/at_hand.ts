import { X509Certificate } from 'node:crypto'
import { AgentError } from './exits.ts'
import { logsFrom } from './logs.ts'
import { readBytes } from './open.ts'
import type { AskOptions, KeyOptions, LogOptions } from './options.ts'
import { readSecret } from './secret_file.ts'
import type { World } from './world.ts'

export async function tokenAtHand(world: World, { tokenFile }: { readonly tokenFile?: string }): Promise<string | undefined> {
  return tokenFile === undefined ? world.env['VAULT_TOKEN'] || undefined : readSecret(tokenFile)
}

export async function taskTokenOf({ taskTokenFile }: AskOptions): Promise<string | undefined> {
  return taskTokenFile === undefined ? undefined : readSecret(taskTokenFile)
}

/** What goes with a quote. */
export async function proofOf({ bind, keyCertificate, eventLog, imaLog }: ProofOptions) {
  const [certificate] = keyCertificate === undefined ? [] : await certificatesIn(keyCertificate)
  return { bind, ...(certificate && { certificate }), logs: logsFrom({ tcg: eventLog, ima: imaLog }) }
}

type ProofOptions = KeyOptions & LogOptions & { readonly bind: boolean }

/** Certificates in a file: one DER, or any number of PEM. */
export async function certificatesIn(path: string): Promise<Buffer[]> {
  const content = await readBytes(path)
  const pem = content.toString('latin1').match(/-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g)
  try {
    return (pem ?? [content]).map(one => new X509Certificate(one).raw)
  } catch (error) {
    throw new AgentError('file', `there is no certificate in ${path}`, { cause: error })
  }
}
