import { type Reader, Writer } from '#attestation'
import type { Authorization } from '../authorization.ts'
import { capability, NV_BUFFER_MAX, STARTUP_CLEAR } from '../codes.ts'
import { fault, TpmError } from '../errors.ts'
import { rc } from '../response_codes.ts'
import type { Tpm } from '../tpm.ts'

/** For a TPM that does not say how much it gives at a time. */
const SMALLEST_NV_BUFFER = 512
const MOST_HANDLES = 254

/** Starts the TPM, unless something did before: on a machine, the firmware. */
export async function startup(tpm: Tpm): Promise<void> {
  try {
    await tpm.run({ name: 'Startup', parameters: new Writer().u16(STARTUP_CLEAR).done(), read: () => {} })
  } catch (error) {
    if (!(error instanceof TpmError && error.code === rc.INITIALIZE)) throw error
  }
}

/** @param session hides the bytes on their way, when given @throws TpmError of MALFORMED when the TPM gives fewer, as it may for more than a digest's worth */
export async function getRandom(tpm: Tpm, size: number, session?: Authorization): Promise<Buffer> {
  const bytes = await tpm.run({
    name: 'GetRandom',
    authorizations: session === undefined ? [] : [session],
    parameters: new Writer().u16(size).done(),
    read: reader => Buffer.from(reader.sized()),
  })
  if (bytes.length !== size) throw fault('MALFORMED', `the TPM gave ${bytes.length} random bytes, wanted ${size}`)
  return bytes
}

/** Handles in use from `first` on, up to the end of its range: 0x80000000 transient, 0x81000000 persistent, 0x01000000 NV, 0x02000000 loaded sessions. */
export function handlesFrom(tpm: Tpm, first: number): Promise<number[]> {
  return getCapability(tpm, capability.HANDLES, first, MOST_HANDLES, reader =>
    Array.from({ length: bounded(reader) }, () => reader.u32()),
  )
}

/** TPM_PT_NV_BUFFER_MAX; the smallest allowed where the TPM does not say. */
export async function nvBufferMax(tpm: Tpm): Promise<number> {
  const properties = await getCapability(tpm, capability.TPM_PROPERTIES, NV_BUFFER_MAX, 1, reader =>
    Array.from({ length: bounded(reader) }, () => ({ property: reader.u32(), value: reader.u32() })),
  )
  return properties.find(({ property }) => property === NV_BUFFER_MAX)?.value || SMALLEST_NV_BUFFER
}

/** TPM2_GetCapability: moreData, then TPMS_CAPABILITY_DATA. */
function getCapability<T>(tpm: Tpm, kind: number, property: number, count: number, read: (reader: Reader) => T): Promise<T> {
  return tpm.run({
    name: 'GetCapability',
    parameters: new Writer().u32(kind).u32(property).u32(count).done(),
    read: reader => {
      reader.u8()
      if (reader.u32() !== kind) reader.fail('BAD_ENCODING', 'another capability than the one asked for')
      return read(reader)
    },
  })
}

function bounded(reader: Reader): number {
  const found = reader.u32()
  return found <= MOST_HANDLES ? found : reader.fail('LIMIT', `a list of ${found}`)
}
