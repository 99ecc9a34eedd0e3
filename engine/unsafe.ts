import { BrokerError } from './errors.ts'

/** As Node reads it: with dashes or underscores, in quotes in a variable. */
const LENIENT = /(?:^|[\s"'])--insecure[-_]http[-_]parser(?![-\w])/

/** Refuses to go on where Node was told to leave out what we rely on, whatever the code says: that certificates are verified, and that a request which can be
 *  read in two ways is none.
 *  @param execArgv options that Node was started with, beside those in NODE_OPTIONS
 *  @throws BrokerError bad_request that names what is set */
export function refuseUnsafe(env: NodeJS.ProcessEnv, execArgv: readonly string[]): void {
  if (env['NODE_TLS_REJECT_UNAUTHORIZED'] === '0')
    throw new BrokerError('bad_request', 'NODE_TLS_REJECT_UNAUTHORIZED=0 is set: not starting without verification')
  if (LENIENT.test([env['NODE_OPTIONS'] ?? '', ...execArgv].join(' ')))
    throw new BrokerError('bad_request', '--insecure-http-parser is set: not starting with requests that can be read in two ways')
}
