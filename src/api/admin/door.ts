/**
 * Requests of an administrator, at the owner-only socket beside a served device or machine: an
 * ADMIN frame `{version, command, given}`, then PROGRESS frames and DONE, or ABORT with the errno
 * that sysfs would give.
 */
import { VfioError } from '../../base/errno.ts';
import { decodeJson, Kind } from '../migrate/frames.ts';
import type { Link } from '../migrate/link.ts';
import { type AdminAnswer, type AdminArguments, type AdminCommand, adminCommand } from './commands.ts';
import type { AdminDesk } from './desk.ts';

export const ADMIN_VERSION = 1;
/** The longest argument. */
const MAX_CHARS = 4096;
/** Longer than any user takes to release a device. */
const PATIENCE_MS = 2 ** 31 - 1;

/** The name of an argument in a row of the table, without its marks. */
export const positionalName = (entry: string): string => entry.replace(/\?$/, '');
export const optionName = (entry: string): string => entry.replace(/=.*$/, '');

/**
 * Answer one request.
 *
 * @param own the function beside whose socket it came; null: it came to the machine's door
 * @throws VfioError (rejects) the fault of the request, or the error of the command. The caller
 *   sends it.
 */
export async function serveAdmin(link: Link, request: Record<string, unknown>, desk: AdminDesk, own: string | null): Promise<void> {
  const { version, command, given = {} } = request;
  if (version !== ADMIN_VERSION) {
    throw new VfioError('EOPNOTSUPP', `the server speaks version ${ADMIN_VERSION} of administration`, {
      fix: 'Use the same version of vfio on both sides.',
    });
  }
  if (typeof command !== 'string') throw new VfioError('EINVAL', 'a request without a command');
  const checked = checkArguments(adminCommand(command), command, given);
  const { lines, value } = await desk.carryOut({ command, given: checked, own }, (text) => link.sendJson(Kind.PROGRESS, { text }));
  await link.sendJson(Kind.DONE, { lines, ...(value === undefined ? {} : { value }) });
}

function checkArguments(row: AdminCommand, command: string, given: unknown): AdminArguments {
  if (typeof given !== 'object' || given === null || Array.isArray(given))
    throw new VfioError('EINVAL', `${command}: its arguments are not an object`);
  const flags = new Map(Object.keys(row.options ?? {}).map((entry) => [optionName(entry), entry.includes('=')]));
  const texts = new Set(row.positional.map(positionalName));
  for (const [name, value] of Object.entries(given)) {
    const takesText = texts.has(name) || flags.get(name) === true;
    if (!takesText && !flags.has(name)) throw new VfioError('EINVAL', `${command} takes no ${name.slice(0, 40)}`);
    if (typeof value !== (takesText ? 'string' : 'boolean'))
      throw new VfioError('EINVAL', `${command}: ${name} is not a ${takesText ? 'string' : 'boolean'}`);
    if (typeof value === 'string' && (value.length > MAX_CHARS || /\p{Cc}/u.test(value))) {
      throw new VfioError('EINVAL', `${command}: ${name} is too long, or has control characters in it`);
    }
  }
  return given as AdminArguments;
}

/**
 * Send a request to the door at the other end of `link`.
 *
 * @param progress gets the server's progress texts
 * @throws VfioError (rejects) the error in the server's answer
 */
export async function askAdmin(
  link: Link,
  command: string,
  given: AdminArguments,
  progress: (text: string) => void = () => {},
): Promise<AdminAnswer> {
  await link.sendJson(Kind.ADMIN, { version: ADMIN_VERSION, command, given });
  for (;;) {
    const frame = await link.receive(PATIENCE_MS);
    const said = decodeJson(frame);
    if (frame.kind === Kind.DONE) {
      const lines = Array.isArray(said.lines) ? said.lines.filter((line) => typeof line === 'string') : [];
      return { lines, ...(typeof said.value === 'object' && said.value !== null ? { value: said.value } : {}) };
    }
    if (frame.kind !== Kind.PROGRESS) throw new VfioError('EPROTO', `frame ${frame.kind} came in place of an answer`);
    progress(String(said.text));
  }
}
