import type { CommandSpec } from '../command.ts';
import { oneOf } from '../values.ts';

export const newProject: CommandSpec = {
  name: 'new',
  summary: 'make a small project of your own, with a device or a driver and its test',
  arguments: [
    {
      name: '<kind>',
      help: 'the part that the project is about; the other part comes along, so that it can be tried',
      kind: oneOf(['device', 'driver']),
    },
    { name: '<name>', help: 'the name of the project, and of its folder' },
  ],
  notes: ['The folder must not exist, or be empty. "npm install" and "npm test" there check the types and run the test.'],
  examples: ['vfio new device my-card', 'cd my-card && npm install && npm test'],
  run: async () => (await import('../new-project.ts')).makeProject,
};
