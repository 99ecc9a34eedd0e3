import { existsSync, globSync, readFileSync } from 'node:fs'
import { dirname, join, normalize } from 'node:path'
import { describe, expect, test } from 'vitest'

// What a page links to is there: files of this folder, and headings of pages. Each page is reached from the README.

const ROOT = join(import.meta.dirname, '../..')
const pages = globSync(['*.md', '*/README.md', 'docs/*.md'], { cwd: ROOT, exclude: ['node_modules/**'] }).toSorted()

const withoutBlocks = (page: string) => readFileSync(join(ROOT, page), 'utf8').replaceAll(/^```.*?^```$/gms, '')

/** As GitHub makes them of headings. */
const anchorOf = (heading: string) =>
  heading
    .toLowerCase()
    .replaceAll(/[^\p{L}\p{N}\s_-]/gu, '')
    .replaceAll(' ', '-')

function anchorsOf(page: string): readonly string[] {
  return [...withoutBlocks(page).matchAll(/^#+ (.*)$/gm)].map(([, heading = '']) => anchorOf(heading))
}

/** Files and headings that a page links to, from the folder of all. */
function linksOf(page: string): readonly (readonly [file: string, anchor: string | undefined])[] {
  const targets = [...withoutBlocks(page).matchAll(/\]\(([^)\s]+)\)/g)].map(([, target = '']) => target)
  return targets
    .filter(target => !/^[a-z]+:/.test(target))
    .map(target => {
      const [file = '', anchor] = target.split('#')
      return [file === '' ? page : normalize(join(dirname(page), file)), anchor] as const
    })
}

describe.each(pages)('%s', page => {
  test('links to what is there', () => {
    const lost = linksOf(page).filter(
      ([file, anchor]) => !existsSync(join(ROOT, file)) || (anchor !== undefined && !anchorsOf(file).includes(anchor)),
    )
    expect(lost).toEqual([])
  })
})

test('each page is reached from the README', () => {
  const reached = new Set(['README.md'])
  for (const page of reached) for (const [file] of linksOf(page)) if (pages.includes(file)) reached.add(file)
  expect(pages.filter(page => !reached.has(page))).toEqual([])
})
