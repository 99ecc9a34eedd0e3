import { openDoor } from './doors.ts'
import { dial, type Line, listenRaw } from './wire.ts'

export const OK = 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK'
export const head = (text: string) => text.slice(0, text.indexOf('\r\n\r\n'))
export const body = (text: string) => text.slice(text.indexOf('\r\n\r\n') + 4)

/** An upstream that answers every request without a body with these bytes, and a door before it. */
export async function doorBefore(
  reply: string,
  options: Parameters<typeof openDoor>[0] = {},
): Promise<{ line: Line; seen: () => string }> {
  let seen = ''
  const url = await listenRaw(line => {
    line.socket.on('data', bytes => {
      seen += bytes.toString('latin1')
      if (seen.endsWith('\r\n\r\n')) line.write(reply)
    })
  })
  const door = await openDoor({ ...options, upstream: { ...options.upstream, url } })
  return { line: await dial(door.url), seen: () => seen }
}

/** An upstream that does as told with each connection, a door before it, and a connection to that. */
export async function doorBeforeRaw(serve: (line: Line) => void, options: Parameters<typeof openDoor>[0] = {}): Promise<Line> {
  const url = await listenRaw(serve)
  const door = await openDoor({ ...options, upstream: { ...options.upstream, url } })
  return dial(door.url)
}
