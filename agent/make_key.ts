import { access } from 'node:fs/promises'
import { resolve } from 'node:path'
import { certificateRequest, selfSigned } from './certificate.ts'
import { AgentError, exits } from './exits.ts'
import { lazyTpm, writePublic } from './open.ts'
import type { KeyCommandOptions } from './options.ts'
import { pemOf } from './pem.ts'
import { tableOf } from './print.ts'
import { writeSecret } from './secret_file.ts'
import { writeKeyFile } from './tpm/key_file.ts'
import type { World } from './world.ts'

/** Not before now: clocks differ by a little. */
const SKEW_MS = 300_000

/** Makes a key in the TPM and a file that only this TPM can load; of a file that is there, what else is wanted of its key. */
export async function runKey(world: World, file: string, options: KeyCommandOptions): Promise<number> {
  const { certificate, request, name, days } = options
  const files = [file, certificate, request].filter(one => one !== undefined).map(one => resolve(one))
  if (new Set(files).size < files.length)
    throw new AgentError('usage', 'wanted a file for each: one would take the place of another')
  const there = await access(file).then(
    () => true,
    () => false,
  )
  if (there && certificate === undefined && request === undefined)
    throw new AgentError('usage', `${file} is there already: wanted --certificate or --request for its key, or another file`)
  if (!there) await make(world, file, options)
  await using tpm = lazyTpm(world, { ...options, key: file })
  const attester = await tpm.attester()
  const { spki, thumbprint } = await attester.boundKey()
  const signer = { spki, sign: (data: Uint8Array) => attester.sign(data) }
  const subject = { commonName: name, notBefore: world.now() - SKEW_MS, days, random: world.random }
  if (certificate !== undefined) await writePublic(certificate, pemOf('CERTIFICATE', await selfSigned(signer, subject)))
  if (request !== undefined) await writePublic(request, pemOf('CERTIFICATE REQUEST', await certificateRequest(signer, name)))
  const said = { key: file, thumbprint, ...(certificate && { certificate }), ...(request && { request }) }
  await world.out(tableOf(Object.entries(said)))
  return exits.ok.code
}

/** It is no secret to anybody but this TPM, and of use to nobody else; private all the same, as who can read it may ask the TPM to sign. */
async function make(world: World, file: string, options: KeyCommandOptions): Promise<void> {
  await using tpm = lazyTpm(world, options)
  await writeSecret(file, writeKeyFile(await (await tpm.attester()).createKey()))
}
