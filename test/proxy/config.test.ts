import { readFile } from 'node:fs/promises'
import { expect, test } from 'vitest'
import { readConfig } from '../../proxy/config.ts'
import { TOKEN_ROUTES } from '../../proxy/http/token_routes.ts'

const GOOD = `listen:
  cert_file: cert.pem
  key_file: key.pem
vault:
  address: http://127.0.0.1:8200
audit:
  file: audit.jsonl
services:
  - kind: http
    name: github
    hosts: [api.github.com]
    inject:
      - header: { name: Authorization, value: 'Bearer {token}' }
`

test('what is left out has a value', () => {
  const read = readConfig(GOOD)
  if (!read.ok) throw new Error(JSON.stringify(read.problems))
  expect(read.config).toMatchObject({
    listen: { port: 8220 },
    places: { kv: 'assay' },
    audit: { deadline_ms: 1000 },
    intercept: false,
  })
  expect(read.config.services[0]).toMatchObject({ scheme: 'https', match: 'bearer', allow: ['/**'], websocket: false })
})

test('the routes that issue tokens are the usual ones, unless the service says which, and the page has them all', async () => {
  const page = await readFile(new URL('../../docs/proxy.md', import.meta.url), 'utf8')
  const [, told = ''] = /(### Routes that issue tokens[\s\S]*?)\n## |$/.exec(page) ?? []
  for (const route of TOKEN_ROUTES) expect(told).toContain(`\`${route}\``)
  const routesOf = (text: string) => {
    const read = readConfig(text)
    return read.ok && read.config.services[0]?.kind === 'http' ? read.config.services[0].token_routes : undefined
  }
  expect(routesOf(GOOD)).toEqual(TOKEN_ROUTES)
  expect(routesOf(replaced('    inject:', '    token_routes: [/keys]\n    inject:'))).toEqual(['/keys'])
  expect(routesOf(replaced('    inject:', '    token_routes: []\n    inject:'))).toEqual([])
})

const replaced = (from: string, to: string) => {
  if (!GOOD.includes(from)) throw new Error(`${from} is not there`)
  return GOOD.replace(from, to)
}

const wrong: readonly (readonly [string, string, number, RegExp])[] = [
  ['a misspelt setting', replaced('    hosts:', '    host: x\n    hosts:'), 11, /services\.0\.host: there is no such setting/],
  ['a missing setting', replaced('    hosts: [api.github.com]\n', ''), 9, /services\.0\.hosts/],
  ['a host that is a pattern', replaced('[api.github.com]', '["*.github.com"]'), 11, /hosts\.0: wanted a host/],
  ...['/{owner}/{repo}.git/**', '/a/**/b', '/a*', 'GET /items/{id}:read'].map((path): (typeof wrong)[number] => [
    `the route ${path}`,
    replaced('    inject:', `    allow: ['${path}']\n    inject:`),
    12,
    /allow\.0: wanted \{slots\} that are whole segments/,
  ]),
  [
    'a method that is none',
    replaced('    inject:', "    token_routes: ['PSOT /x']\n    inject:"),
    12,
    /token_routes\.0: wanted .* methods that there are/,
  ],
  ['a route that is none', replaced('    inject:', "    allow: ['get /x']\n    inject:"), 12, /allow\.0: wanted a path/],
  [
    'a template without a field',
    replaced('Bearer {token}', 'Bearer token'),
    13,
    /inject\.0\.header\.value: wanted at least one \{field\}/,
  ],
  [
    'two places in one',
    replaced("'Bearer {token}' }", "'Bearer {token}' }\n        basic: { user: a, password: '{token}' }"),
    13,
    /inject\.0: wanted one of header, query, basic, body, aws/,
  ],
  ['a match that is none', replaced('    inject:', '    match: cookie\n    inject:'), 12, /match: wanted bearer/],
  [
    'an address that is none',
    replaced('    inject:', '    addresses: [10.0.0.0/99]\n    inject:'),
    12,
    /addresses\.0: wanted an address/,
  ],
  [
    'a range by an address in it',
    replaced('    inject:', '    addresses: [10.1.2.3/8]\n    inject:'),
    12,
    /addresses\.0: wanted an address/,
  ],
  ['a kind that is not there', replaced('kind: http', 'kind: telnet'), 9, /services\.0/],
  [
    'a disk that is waited for without end',
    replaced('  file: audit.jsonl', '  file: a\n  deadline_ms: 0'),
    8,
    /audit\.deadline_ms/,
  ],
  ['no YAML', replaced('services:', 'services: ]'), 8, /./],
  ['a setting twice', replaced('audit:', 'vault:\n  address: http://x\naudit:'), 6, /unique/],
  ['a number that is too large', replaced('  key_file: key.pem', '  key_file: key.pem\n  port: 70000'), 4, /listen\.port/],
  [
    'two services of one name',
    `${GOOD}${GOOD.slice(GOOD.indexOf('  - kind')).replace('api.github.com', 'b.example')}`,
    14,
    /name github is taken/,
  ],
  [
    'two services of one host',
    `${GOOD}${GOOD.slice(GOOD.indexOf('  - kind')).replace('name: github', 'name: other')}`,
    14,
    /api\.github\.com:443 is taken by the service github/,
  ],
  ...(
    [
      ['with a dot at its end', 'API.github.com.', 'api.github.com'],
      ['as a number', '2130706433', '127.0.0.1'],
      ['with its port', 'api.github.com:443', 'api.github.com'],
      ['with zeros', '[0:0::1]', '[::1]'],
    ] as const
  ).map(([how, one, other]): (typeof wrong)[number] => [
    `two services of one host, ${how}`,
    GOOD.replace('[api.github.com]', `['${one}']`) +
      GOOD.slice(GOOD.indexOf('  - kind')).replace('[api.github.com]', `['${other}']`).replace('name: github', 'name: other'),
    14,
    /:443 is taken by the service github/,
  ]),
  [
    'aws beside another',
    replaced('    inject:', '    inject:\n      - aws: { regions: [a], services: [s3] }'),
    12,
    /aws signs the whole request/,
  ],
  ...['client_cert_file', 'client_key_file'].map((member): (typeof wrong)[number] => [
    `${member} alone`,
    replaced('    inject:', `    ${member}: client.pem\n    inject:`),
    member === 'client_cert_file' ? 12 : 9,
    /client_cert_file: wanted client_cert_file and client_key_file, or neither/,
  ]),
  ['nothing', '', 1, /./],
]

test.each(wrong)('%s is found, with its line', (_, text, line, message) => {
  const read = readConfig(text)
  if (read.ok) throw new Error('it was taken')
  expect(read.problems[0]).toMatchObject({ line, column: expect.any(Number) })
  expect(read.problems.map(one => one.message).join('\n')).toMatch(message)
})

test('many aliases of one thing are not unfolded', () => {
  const bomb = `a: &a [x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b]\nd: [*c,*c,*c,*c,*c]\n${GOOD}`
  expect(readConfig(bomb).ok).toBe(false)
})

test('every sample of the documentation is in order', async () => {
  const pages = ['proxy', 'postgres-and-ssh'].map(name => readFile(new URL(`../../docs/${name}.md`, import.meta.url), 'utf8'))
  const page = (await Promise.all(pages)).join('\n')
  const samples = [...page.matchAll(/```yaml\n([\s\S]*?)```/g)].map(([, text = '']) => text)
  expect(samples.length).toBeGreaterThan(4)
  const head = GOOD.slice(0, GOOD.indexOf('services:'))
  const whole = (sample: string) => {
    if (sample.startsWith('listen:')) return sample
    return sample.startsWith('  - ') ? `${head}services:\n${sample}` : `${GOOD}${sample}`
  }
  for (const sample of samples) {
    const read = readConfig(whole(sample))
    expect(read.ok ? [] : read.problems).toEqual([])
  }
})
