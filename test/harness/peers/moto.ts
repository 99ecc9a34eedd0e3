import { freePort, start } from '../process.ts'
import { provisioned } from './provisioned.ts'

/** A stand-in for AWS (moto) on a free port. Disposing of it ends it. */
export type Moto = AsyncDisposable & { readonly url: string }

export async function startMoto(): Promise<Moto> {
  const moto = await provisioned('need_moto', 'moto')
  const port = await freePort()
  const server = await start(moto, ['-H', '127.0.0.1', '-p', String(port)])
  const url = `http://127.0.0.1:${port}`
  await server.ready('to answer', () =>
    fetch(`${url}/moto-api/`).then(
      reply => reply.ok,
      () => false,
    ),
  )
  return { url, [Symbol.asyncDispose]: server[Symbol.asyncDispose] }
}
