/** The ssh session that a command is typed in. */
import type { HostFiles } from '../sys/host-files.ts';

/** More processes above one another are a circle, which a copy of /proc may have. */
const MAX_PARENTS = 64;

/**
 * The address from which the administrator has logged in by ssh; null for none. sshd sets
 * SSH_CONNECTION, which has the client's address and port, then the server's. sudo removes it:
 * processes above this one have it still.
 */
export function sshClientOf(files: HostFiles, own: string | undefined): string | null {
  const clientIn = (connection: string | undefined) => /^[^\s]+(?= )/.exec(connection ?? '')?.[0] ?? null;
  let found = clientIn(own);
  let pid = 'self';
  for (let level = 0; found === null && level < MAX_PARENTS; level++) {
    found = clientIn(/(?:^|\0)SSH_CONNECTION=([^\0]*)/.exec(files.text(`/proc/${pid}/environ`) ?? '')?.[1]);
    // The name of a program, in parentheses, can have any character.
    const parent = /.*\) \S (\d+)/s.exec(files.text(`/proc/${pid}/stat`) ?? '')?.[1];
    if (parent === undefined || parent === '0') break;
    pid = parent;
  }
  return found;
}
