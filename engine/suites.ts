import { constants } from 'node:crypto'

/** What TLS is spoken with where somebody else may be the server: not Diffie-Hellman over a prime that the server chooses (TLS 1.2). One of 10,000 bits takes a
 *  second, in which nobody is served, and it comes before anything shows who the server is. */
export const SUITES = `${constants.defaultCipherList}:!DHE`
