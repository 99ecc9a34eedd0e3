import { BrokerError } from '../errors.ts'
import { isTransitKey, TRANSIT_KEY } from '../issuers/common.ts'
import { API } from '../issuers/github_app.ts'
import { rotator } from './rotator.ts'

/** The private key of a GitHub App. GitHub has no API that makes one: the operator makes it there, imports it into transit under a new name, and gives
 *  that name with the order; it is shown to GitHub before it is used. The old one is deleted by hand, at GitHub and in transit.
 *  @see https://docs.github.com/en/rest/apps/apps#get-the-authenticated-app */
export const githubAppKey = rotator({
  summary:
    'The private key of a GitHub App: the name of the next key in transit comes with the order, and is shown to GitHub first.',
  type: 'github_app',
  settings: {},
  serves: () => true,
  supplied: true,
  handleOf: (_root, { key }) => ({ key: String(key) }),
  make: async (_root, _ports, { secrets, settings: { key, ...more } }) => {
    if (!isTransitKey(key) || Object.keys({ ...secrets, ...more }).length > 0)
      throw new BrokerError('bad_request', `settings: wanted key, ${TRANSIT_KEY[1]}, and nothing else`)
    return { secrets: {}, settings: { key }, handle: { key } }
  },
  prove: async ({ handle: { key = '' } }, _root, ports) => {
    const { api_url, app_id, installation_id } = ports.settings
    const now = Math.floor(ports.now() / 1000)
    const claims = { iat: now - 60, exp: now + 300, iss: app_id }
    const jwt = await ports.signRs256(key, claims)
    // the installation says more than the app: that the key is of the app that has it
    const url = `${String(api_url)}/app/installations/${String(installation_id)}`
    const { status } = await ports.http.send({ method: 'GET', url, headers: { ...API, authorization: `Bearer ${jwt}` } })
    if (status !== 200)
      throw new BrokerError('unavailable', `${ports.integration}: GitHub does not take the key: status ${status}`)
  },
})
