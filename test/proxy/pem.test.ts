import { expect, test } from 'vitest'
import { openProxyWorld, type WorldOptions } from './world.ts'

// Files that are there and are something else: told at start by the setting that names them, and not by whoever connects.

const listen = { port: 0, cert_file: 'cert.pem', key_file: 'key.pem' }
const mistakes: readonly (readonly [string, WorldOptions, RegExp])[] = [
  [
    'a key for a certificate',
    { config: { listen: { ...listen, cert_file: 'key.pem' } } },
    /^listen: the certificate and its key have to be PEM/,
  ],
  ['the key of another certificate', { config: { listen: { ...listen, cert_file: 'ca.pem' } } }, /^listen: .* belong together$/],
  [
    'an authority of agents',
    { config: { listen: { ...listen, client_ca_file: 'key.pem' } } },
    /^listen\.client_ca_file: wanted certificates in PEM$/,
  ],
  [
    'an authority of a server',
    { service: { ca_file: 'key.pem' } },
    /^ca_file of the service upstream: wanted certificates in PEM$/,
  ],
  [
    'what is shown to a server',
    { service: { client_cert_file: 'ca.pem', client_key_file: 'key.pem' } },
    /^client_cert_file of the service upstream: the certificate and its key have to be PEM and belong together$/,
  ],
]

test.each(mistakes)('%s: nothing listens', async (_, options, sentence) => {
  await expect(openProxyWorld(options)).rejects.toThrow(sentence)
})
