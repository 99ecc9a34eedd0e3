/** Consent of people, in a browser: OAuth 2.0 authorization code flow with the broker as the client. */
export { type ConsentGrant, type Grants, openGrants, type Purpose } from './grants.ts'
export { openRequests, type State, type Wish } from './requests.ts'
export { CALLBACK_PATH, CONSENT_TYPE, type Consent, type ConsentView, openConsent, PAGE_PATH, type Progress } from './service.ts'
