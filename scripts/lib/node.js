import module from 'node:module'
import { homedir } from 'node:os'
import { join } from 'node:path'

/**
 * Imported first by every program that is started by hand, so that an old Node ends with a sentence instead of an error
 * from deep inside. It is JavaScript, so that every Node can read it.
 */
const wanted = 24

if (Number(process.versions.node.split('.')[0]) < wanted) {
  process.stderr.write(`this needs Node ${wanted} or newer, and is run by ${process.version}: use the commands in scripts/\n`)
  process.exit(1)
}

// compiled and stripped of types once, not at every start; a user without a home has no place for that
const cache = process.env['XDG_CACHE_HOME'] || cacheAtHome()
if (cache) module.enableCompileCache(join(cache, 'assay', 'node'))

function cacheAtHome() {
  try {
    return join(homedir(), '.cache')
  } catch {
    return undefined
  }
}
