import 'reflect-metadata'
import { createHash, webcrypto } from 'node:crypto'
import { isIP } from 'node:net'
import * as x509 from '@peculiar/x509'

x509.cryptoProvider.set(webcrypto as never)

const KEY = { name: 'ECDSA', namedCurve: 'P-256' } as const
const SIGNATURE = { name: 'ECDSA', hash: 'SHA-256' } as const
const DAY = 24 * 60 * 60 * 1000

export type Pair = { readonly cert: string; readonly key: string }
export type Authority = {
  readonly ca: string
  readonly issue: (name: string, days?: number) => Promise<Pair & { readonly sha256: string }>
}

/** An authority of its own, whose leaves are good for the name they are issued to and for 127.0.0.1, as server and as client. */
export async function newAuthority(name: string): Promise<Authority> {
  const keys = await newKeys()
  const root = await x509.X509CertificateGenerator.createSelfSigned({
    ...validity(),
    serialNumber: '01',
    name: `CN=${name}`,
    keys,
    signingAlgorithm: SIGNATURE,
    extensions: [
      new x509.BasicConstraintsExtension(true, 0, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign, true),
    ],
  })
  return { ca: root.toString('pem'), issue: (leaf, days) => issue(root, keys, leaf, days) }
}

let serial = 0x10

async function issue(root: x509.X509Certificate, { privateKey }: webcrypto.CryptoKeyPair, name: string, days?: number) {
  const keys = await newKeys()
  serial += 1
  const certificate = await x509.X509CertificateGenerator.create({
    ...validity(days),
    serialNumber: serial.toString(16),
    subject: `CN=${name}`,
    issuer: root.subject,
    publicKey: keys.publicKey,
    signingKey: privateKey,
    signingAlgorithm: SIGNATURE,
    extensions: [
      new x509.SubjectAlternativeNameExtension([
        { type: isIP(name) ? 'ip' : 'dns', value: name },
        { type: 'ip', value: '127.0.0.1' },
      ]),
      new x509.ExtendedKeyUsageExtension([x509.ExtendedKeyUsage.serverAuth, x509.ExtendedKeyUsage.clientAuth]),
    ],
  })
  const key = x509.PemConverter.encode(await webcrypto.subtle.exportKey('pkcs8', keys.privateKey), 'PRIVATE KEY')
  const sha256 = createHash('sha256').update(Buffer.from(certificate.rawData)).digest('hex')
  return { cert: certificate.toString('pem'), key, sha256 }
}

function newKeys(): Promise<webcrypto.CryptoKeyPair> {
  return webcrypto.subtle.generateKey(KEY, true, ['sign', 'verify']) as Promise<webcrypto.CryptoKeyPair>
}

function validity(days = 1) {
  return { notBefore: new Date(Date.now() - DAY), notAfter: new Date(Date.now() + days * DAY) }
}
