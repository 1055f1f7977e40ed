using Sandbox.Conformance.Backends;
using Xunit;

[assembly: AssemblyFixture(typeof(Subjects))]
