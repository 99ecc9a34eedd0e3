import '../lib/node.js'
import { readFile } from 'node:fs/promises'
import known from './differs.json' with { type: 'json' }
import { judge, outcomesOf } from './judgement.ts'

// node compare.ts STRAIGHT THROUGH [all]: two reports of the same tests, of all that there are or of some.

const [straight = '', through = '', which] = process.argv.slice(2)
const read = async (file: string) => outcomesOf(await readFile(file, 'utf8'))
const reports = { straight: await read(straight), through: await read(through) }
const { ok, lines } = judge(reports, { differs: known.differs, floor: which === 'all' ? known.floor : 1 })
process.stdout.write(`${lines.join('\n')}\n`)
if (!ok) process.exitCode = 1
