import { handle, type Reader, Writer } from '#attestation'
import type { Authorization } from '../authorization.ts'
import { fault } from '../errors.ts'
import { password } from '../password.ts'
import { type Entity, entity, type Tpm } from '../tpm.ts'
import { nvBufferMax } from './state.ts'

/** An NV index (Part 2, TPMS_NV_PUBLIC). */
export type NvIndex = Entity & { readonly attributes: number; readonly size: number }

/** TPMA_NV_AUTHREAD */
const AUTHREAD = 0x40000

export function readNvPublic(tpm: Tpm, index: number): Promise<NvIndex> {
  return tpm.run({
    name: 'NV_ReadPublic',
    handles: [entity(index)],
    read: reader => {
      const { attributes, size } = nvPublic(reader)
      return { handle: index, name: Buffer.from(reader.sized()), attributes, size }
    },
  })
}

/** Reads the whole of an index, in pieces as large as the TPM gives, under the index' own authorisation or else the owner's. @param authorize one authorisation for each piece */
export async function readNv(tpm: Tpm, index: NvIndex, authorize: () => Authorization = password): Promise<Buffer> {
  const most = await nvBufferMax(tpm)
  const pieces: Buffer[] = []
  for (let offset = 0; offset < index.size; offset += most) {
    pieces.push(await readPiece(tpm, index, offset, Math.min(most, index.size - offset), authorize()))
  }
  return Buffer.concat(pieces)
}

async function readPiece(tpm: Tpm, index: NvIndex, offset: number, size: number, authorization: Authorization): Promise<Buffer> {
  const piece = await tpm.run({
    name: 'NV_Read',
    handles: [index.attributes & AUTHREAD ? index : entity(handle.OWNER), index],
    authorizations: [authorization],
    parameters: new Writer().u16(size).u16(offset).done(),
    read: reader => Buffer.from(reader.sized()),
  })
  if (piece.length !== size) throw fault('MALFORMED', `the TPM gave ${piece.length} bytes of NV memory, wanted ${size}`)
  return piece
}

/** TPM2B_NV_PUBLIC: size, nvIndex, nameAlg, attributes, authPolicy, dataSize. */
function nvPublic(reader: Reader): { attributes: number; size: number } {
  reader.u16()
  reader.u32()
  reader.u16()
  const attributes = reader.u32()
  reader.sized()
  return { attributes, size: reader.u16() }
}
