import type { Socket } from 'node:net'
import type { TLSSocket } from 'node:tls'
import { leave } from '../leave.ts'
import { type RefusalCode, type Refused, toldOf } from '../refusals.ts'
import { holderOf } from '../tls/holder.ts'
import { secure } from '../tls/secure.ts'
import { stillPermitted } from '../tokens.ts'
import { type Admitted, admit } from './admission.ts'
import { type Frame, frame, framesOf, kinds, written } from './frames.ts'
import { type Shown, watchClient, watchHandshake } from './handshake.ts'
import { trustedKey } from './host.ts'
import type { SessionPorts } from './ports.ts'
import { openSigner, type Signer } from './signer.ts'

/** A connection of a companion: TLS, its first frame, then one session of SSH that goes through as it is. */
export async function serve(ports: SessionPorts, socket: Socket): Promise<void> {
  socket.on('error', () => socket.destroy())
  const txn = ports.newId()
  const deadline = AbortSignal.timeout(ports.startWithinMs)
  const agent = await secure(ports.door, socket, deadline)
  if (!agent) return void socket.destroy()
  const held = holderOf(agent)
  const refused = ({ code, detail }: Pick<Refused, 'code' | 'detail'>) => ports.refused(code, detail, txn, held?.holder)
  const end = (why: Pick<Refused, 'code' | 'detail'>) => {
    refused(why)
    leave(agent, told(why.code))
  }
  if (!ports.places.take(agent, held?.holder)) return end({ code: 'CONNECTIONS', detail: 'as many as one agent may have' })
  const late = () => agent.destroy()
  deadline.addEventListener('abort', late, { once: true })
  const frames = framesOf(agent)
  const first = await frames.next().catch(() => undefined)
  const admitted = await admit(ports, held, first?.value || undefined, txn)
  deadline.removeEventListener('abort', late)
  if (!admitted.ok) return end(deadline.aborted ? { code: 'REQUEST_SLOW', detail: 'no first frame in time' } : admitted)
  await run(ports, agent, frames, admitted.value, deadline, refused, end)
}

type Tell = (why: Pick<Refused, 'code' | 'detail'>) => void

async function run(
  ports: SessionPorts,
  agent: TLSSocket,
  frames: AsyncGenerator<Frame, void>,
  { upstream, user, credential, ...admitted }: Admitted,
  deadline: AbortSignal,
  refused: Tell,
  end: Tell,
): Promise<void> {
  let server: { readonly shown: Shown; readonly key: Buffer } | undefined
  const permits = () => stillPermitted(ports, admitted)
  const signer = openSigner({ credential, user, server: () => server, permits, refused })
  let over = false
  const stop: Tell = why => {
    if (over) return
    over = true
    end(why)
    upstream.destroy()
  }
  const tooLate = () => signer.signed() || stop({ code: 'REQUEST_SLOW', detail: 'no login in time' })
  if (deadline.aborted) tooLate()
  deadline.addEventListener('abort', tooLate, { once: true })
  const watch = setInterval(() => {
    const still = permits()
    if (!still.ok) stop({ code: still.code, detail: 'the session ends with what let it through' })
  }, ports.watchMs)
  const shows = (shown: Shown) => {
    const key = trustedKey(ports.trust, shown.hostKey, ports.now())
    if (key.ok) server = { shown, key: key.value }
    else stop(key)
    return key.ok
  }
  if (agent.destroyed) upstream.destroy()
  agent.once('close', () => upstream.destroy())
  upstream.on('error', () => upstream.destroy())
  const { promise: taken, resolve: take } = Promise.withResolvers<boolean>()
  await Promise.allSettled([toServer(frames, agent, upstream, signer, take, stop), toAgent(agent, upstream, shows, taken, stop)])
  over = true
  clearInterval(watch)
  deadline.removeEventListener('abort', tooLate)
}

/** What the client says, until it ends; what it asks of its ssh-agent is answered here. `take` hears whether it has taken the server's key. */
async function toServer(
  frames: AsyncGenerator<Frame, void>,
  agent: TLSSocket,
  upstream: Socket,
  signer: Signer,
  take: (hasTaken: boolean) => void,
  stop: Tell,
): Promise<void> {
  const client = watchClient()
  let hasTaken = false
  try {
    for await (const { kind, body } of frames) {
      if (kind === kinds.data) {
        const seen: boolean | 'never' = hasTaken || client(body)
        if (seen === 'never') return stop({ code: 'REQUEST_FORM', detail: 'the client does not speak SSH 2' })
        hasTaken = seen
        if (seen) take(true)
        await written(upstream, body)
      } else if (kind === kinds.agent) await written(agent, frame(kinds.agent, signer.answer(body)))
      else break
    }
  } finally {
    take(false)
    upstream.end()
  }
}

/** What the server says. Nothing of it that shows its key goes on before that is the right one, and nothing that is no more in clear before the client has taken
 *  that key: else a server could end what is looked at here with a NEWKEYS that the client passes over, and show it another key behind that. */
async function toAgent(
  agent: TLSSocket,
  upstream: Socket,
  shows: (shown: Shown) => boolean,
  taken: Promise<boolean>,
  stop: Tell,
): Promise<void> {
  const handshake = watchHandshake()
  let isBegun = false
  try {
    for await (const chunk of upstream as AsyncIterable<Buffer>) {
      let rest = chunk
      if (!isBegun) {
        const found = handshake(chunk)
        if (found === 'never') return stop({ code: 'UPSTREAM', detail: 'it does not speak SSH 2' })
        if (!found.shown.every(shows)) return
        isBegun = found.behind !== undefined
        const clear = chunk.length - (found.behind ?? 0)
        await written(agent, frame(kinds.data, chunk.subarray(0, clear)))
        if (isBegun && !(await taken)) return
        rest = chunk.subarray(clear)
      }
      if (rest.length > 0) await written(agent, frame(kinds.data, rest))
    }
  } finally {
    agent.end(() => agent.destroy())
  }
}

function told(code: RefusalCode): Buffer {
  const { code: shown, sentence } = toldOf(code)
  return frame(kinds.refused, Buffer.from(`${shown}: ${sentence}`))
}
