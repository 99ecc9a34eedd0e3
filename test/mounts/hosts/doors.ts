import { createServer, type RequestListener } from 'node:http'
import { onTestFinished } from 'vitest'
import { type FrontDoor, type FrontDoorOptions, openFrontDoor } from '../../../mounts/hosts/http.ts'
import { bodyOf, canonicalPathOf } from '../../../mounts/hosts/request_facts.ts'
import { openUpstream, type UpstreamOptions } from '../../../mounts/hosts/upstream.ts'
import { acceptVaultVerbs } from '../../../mounts/hosts/verbs.ts'

export type DoorOptions = Partial<Omit<FrontDoorOptions, 'upstream'>> & { readonly upstream?: Partial<UpstreamOptions> }

/** A front door for the length of one test. What is below `/v1/own` is its own and answers with what it saw. */
export async function openDoor({ upstream: to, ...options }: DoorOptions = {}): Promise<FrontDoor> {
  const upstream = openUpstream({ url: 'http://127.0.0.1:9', answerWithinMs: 90_000, ...to })
  const door = await openFrontDoor({
    listen: { host: '127.0.0.1', port: 0 },
    owns: (_, path) => path.api && path.segments[0] === 'own',
    own: async (request, { incoming }) => {
      const seen = {
        method: request.method,
        url: request.url,
        path: canonicalPathOf(incoming),
        body: bodyOf(incoming).toString(),
      }
      const same = ['GET', 'HEAD'].includes(request.method) || (await request.text()) === seen.body
      return Response.json({ ...seen, same })
    },
    ...options,
    upstream,
  })
  onTestFinished(async () => {
    await door.close(0)
    upstream.close()
  })
  return door
}

/** A well-behaved upstream of Node's own making, for the length of one test. */
export async function listenHttp(answer: RequestListener): Promise<string> {
  const server = createServer()
  acceptVaultVerbs(server)
  server.on('request', answer)
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  onTestFinished(() => {
    server.close()
    server.closeAllConnections()
  })
  return `http://127.0.0.1:${(server.address() as { port: number }).port}`
}
