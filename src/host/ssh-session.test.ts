import { expect, it } from 'vitest';
import { FakeHost } from '../../tests/kit/fake-host.ts';
import { sshClientOf } from './ssh-session.ts';

const processes = (entries: Readonly<Record<string, string>>) => {
  const host = new FakeHost({});
  for (const [path, text] of Object.entries(entries)) host.entries.set(`/proc/${path}`, text);
  return host;
};

it('the environment names the client, IPv6 as well', () => {
  expect(sshClientOf(processes({}), '192.0.2.9 51234 192.0.2.1 22')).toBe('192.0.2.9');
  expect(sshClientOf(processes({}), '2001:db8::9 51234 2001:db8::1 22')).toBe('2001:db8::9');
});

it('below sudo, which removes the variable, a process above has it', () => {
  const host = processes({
    'self/environ': 'SUDO_USER=a\0',
    'self/stat': '30 (node (x) y) S 20 1 1',
    '20/environ': 'PATH=/bin\0',
    '20/stat': '20 (sudo) S 10 1 1',
    '10/environ': 'PATH=/bin\0SSH_CONNECTION=192.0.2.9 51234 192.0.2.1 22\0',
  });
  expect(sshClientOf(host, undefined)).toBe('192.0.2.9');
});

it('there is none at the console, and processes that are their own parents end', () => {
  expect(sshClientOf(processes({ 'self/stat': '3 (sh) S 1 1', '1/stat': '1 (init) S 0 0' }), undefined)).toBe(null);
  expect(sshClientOf(processes({ 'self/stat': '3 (sh) S 3 1', '3/stat': '3 (sh) S 3 1' }), undefined)).toBe(null);
});
