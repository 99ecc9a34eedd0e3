import { mkdirSync, realpathSync, statSync } from 'node:fs'
import module from 'node:module'
import { homedir } from 'node:os'
import { dirname, join } from 'node:path'

/**
 * Imported first by every program that is started by hand, so that an old Node, or a reader that has left, ends it with a sentence
 * instead of an error from deep inside, and no signal opens it to others. It is JavaScript, so that every Node can read it.
 */
const wanted = [24, 12] // what an older one does not know of options of its HTTP it ignores, and some of them refuse

const [major, minor] = process.versions.node.split('.').map(Number)
if (major < wanted[0] || (major === wanted[0] && minor < wanted[1])) {
  process.stderr.write(
    `this needs Node ${wanted.join('.')} or newer, and is run by ${process.version}: use the commands in scripts/\n`,
  )
  process.exit(1)
}

// compiled and stripped of types once, not at every start; a user without a home has no place for that
const cache = process.env['XDG_CACHE_HOME'] || cacheAtHome()
if (cache) enableCache(join(cache, 'assay', 'node'))

// Names are resolved on half of these threads, each for as long as its servers are silent: with four of them, as by default, two names that nobody answers
// for keep all others waiting
if (['server', 'proxy'].includes(process.argv[2])) process.env['UV_THREADPOOL_SIZE'] ||= '16'

// Node's own answer is a debugger on the loopback, where every user of the machine could run code in this process
process.on('SIGUSR1', () => {})

// who reads no messages ends nobody; a command whose answer is lost has not succeeded (those of the agent say so themselves)
process.stderr.on('error', () => {})
process.stdout.on('error', error => {
  if (process.argv[2] === 'agent') return
  process.exitCode = 1
  if (error.code !== 'EPIPE') process.stderr.write(`assay: what was asked for could not be written (${error.code})\n`)
})

// What is in there is run as it is: V8 compares no more of it with the sources than their length. So nobody else may write there, as they may where HOME is
// that of somebody else (sudo -E), or a folder that all share
function enableCache(folder) {
  try {
    mkdirSync(folder, { recursive: true, mode: 0o700 })
    if (isOurs(realpathSync(folder))) module.enableCompileCache(folder)
  } catch {
    // a start without it takes longer
  }
}

function isOurs(folder) {
  const { uid, mode } = statSync(folder)
  const others = (mode & 0o022) !== 0 && (mode & 0o1000) === 0
  if (others || (uid !== 0 && uid !== process.getuid?.())) return false
  return folder === dirname(folder) || isOurs(dirname(folder))
}

function cacheAtHome() {
  try {
    return join(homedir(), '.cache')
  } catch {
    return undefined
  }
}
