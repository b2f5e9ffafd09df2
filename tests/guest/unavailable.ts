/** What the guest tests need cannot be had on this machine: they are skipped, with this reason. */
export class Unavailable extends Error {}
