import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { afterEach, beforeEach } from 'vitest'
import { type ListFields, makeList, pem } from '../attestation/certificates.ts'
import { configure, dataOf, openTestBroker, refusalOf, type TestBroker } from '../fakes/broker.ts'
import { maker } from '../fakes/machine.ts'

/** A configured broker of its own for each test of a file, and what is asked of its mount again and again. */
export function trustWorld() {
  let broker: TestBroker
  beforeEach(async () => {
    broker = await openTestBroker()
    await configure(broker)
  })
  afterEach(() => broker[Symbol.asyncDispose]())
  return {
    broker: () => broker,
    write: (path: string, data: object) => broker.ask('update', `auth/tpm-quote/${path}`, data),
    read: async (path: string) => dataOf(await broker.ask('read', `auth/tpm-quote/${path}`)) as Record<string, unknown>,
    remove: (path: string) => broker.ask('delete', `auth/tpm-quote/${path}`),
    refusal: (asked: Promise<unknown>) => refusalOf(broker, asked),
    /** Whoever enrolled before was looked up in the lists of now: the last look ends with the watch. */
    looked: () => broker.broker.attest.watch.stop(),
  }
}

/** A list of the maker whose machines the tests have. */
export const list = (changes: Partial<ListFields> = {}) => pem(makeList(maker, changes), 'X509 CRL')
export const revoked = { revoked: [{ serial: Buffer.of(1) }] }

export type Answer = { status?: number; body?: Buffer | string; headers?: Record<string, string> }

/** A place that lists are fetched from. */
export async function listHost(answer: () => Answer | Promise<Answer>) {
  const asked: string[] = []
  const server = createServer((request, response) => {
    asked.push(request.url ?? '')
    void Promise.resolve(answer()).then(({ status = 200, body = '', headers = {} }) =>
      response.writeHead(status, headers).end(body),
    )
  })
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  const place = `127.0.0.1:${(server.address() as AddressInfo).port}`
  const close = () => new Promise(resolve => server.close(resolve))
  return { place, url: `http://${place}/maker.crl`, asked, [Symbol.asyncDispose]: async () => void (await close()) }
}
