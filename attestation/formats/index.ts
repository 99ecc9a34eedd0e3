import { awsNitro } from './aws_nitro.ts'
import type { Format } from './format.ts'
import { tpm2Quote } from './tpm2_quote.ts'

/** Every format of evidence that is understood, by its name. A new one is a file and a line. */
export const formats: ReadonlyMap<string, Format> = new Map([tpm2Quote, awsNitro].map(format => [format.name, format]))
