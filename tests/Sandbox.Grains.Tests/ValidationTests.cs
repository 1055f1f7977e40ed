using Sandbox.Abstractions;
using Sandbox.Grains.Sessions.Validation;
using Sandbox.Grains.Tests.Support;
using Xunit;

namespace Sandbox.Grains.Tests;

/// <summary>Bad input names its field and changes nothing.</summary>
public sealed class ValidationTests
{
    public static TheoryData<string, CreateSessionRequest> BadSessions => new()
    {
        { "template", new() { Template = "../etc" } },
        { "template", new() { Template = "" } },
        { "template", new() { Template = null! } },
        { "backend", new() { Backend = "Qemu!" } },
        { "vcpus", new() { Vcpus = 0 } },
        { "vcpus", new() { Vcpus = 33 } },
        { "memoryMiB", new() { MemoryMiB = 127 } },
        { "memoryMiB", new() { MemoryMiB = int.MaxValue } },
        { "diskMiB", new() { DiskMiB = 63 } },
        { "diskMiB", new() { DiskMiB = -1 } },
        { "idleTimeoutSeconds", new() { IdleTimeout = TimeSpan.Zero } },
        { "idleTimeoutSeconds", new() { IdleTimeout = TimeSpan.MaxValue } },
        { "maxLifetimeSeconds", new() { MaxLifetime = TimeSpan.FromDays(366) } },
        { "env", new() { Env = null! } },
        { "env", new() { Env = new() { ["1A"] = "" } } },
        { "env", new() { Env = new() { ["A=B"] = "" } } },
        { "env", new() { Env = new() { ["A"] = "x\0y" } } },
        { "env", new() { Env = new() { ["A"] = new string('x', 70_000) } } },
        { "env", new() { Env = Enumerable.Range(0, 257).ToDictionary(i => $"A{i}", _ => "") } },
        { "metadata", new() { Metadata = new() { ["a"] = new string('x', 17_000) } } },
        { "metadata", new() { Metadata = Enumerable.Range(0, 65).ToDictionary(i => $"a{i}", _ => "") } },
    };

    public static TheoryData<string, ExecutionRequest> BadExecutions => new()
    {
        { "argv", new() },
        { "argv", new() { Argv = ["ls"], Shell = "ls" } },
        { "argv", new() { Argv = [] } },
        { "argv", new() { Argv = [""] } },
        { "argv", new() { Argv = ["a\0b"] } },
        { "argv", new() { Argv = [.. Enumerable.Repeat("a", 4097)] } },
        { "argv", new() { Argv = [new string('a', 140_000)] } },
        { "shell", new() { Shell = new string('a', 140_000) } },
        { "shell", new() { Shell = "a\0b" } },
        { "code", new() { Code = new string('a', 263_000) } },
        { "contextId", new() { Code = "1", ContextId = "../x" } },
        { "contextId", new() { Shell = "ls", ContextId = SandboxIds.NewContext() } },
        { "language", new() { Code = "1", ContextId = SandboxIds.NewContext(), Language = "python" } },
        { "pty", new() { Code = "1", Pty = new(80, 24) } },
        { "openStdin", new() { Code = "1", OpenStdin = true } },
        { "pty", new() { Shell = "ls", Pty = new(0, 24) } },
        { "pty", new() { Shell = "ls", Pty = new(80, 1001) } },
        { "cwd", new() { Shell = "ls", Cwd = "a\0b" } },
        { "cwd", new() { Shell = "ls", Cwd = new string('a', 5000) } },
        { "user", new() { Shell = "ls", User = "root; rm" } },
        { "timeoutSeconds", new() { Shell = "ls", Timeout = TimeSpan.Zero } },
        { "graceSeconds", new() { Shell = "ls", Grace = TimeSpan.FromMinutes(6) } },
        { "outputLimitBytes", new() { Shell = "ls", OutputLimitBytes = 0 } },
        { "env", new() { Shell = "ls", Env = new() { ["a b"] = "" } } },
        { "tag", new() { Shell = "ls", Tag = "" } },
        { "tag", new() { Shell = "ls", Tag = new string('x', 129) } },
        { "tag", new() { Shell = "ls", Tag = "a\nb" } },
    };

    [Theory]
    [MemberData(nameof(BadSessions), DisableDiscoveryEnumeration = true)]
    public void A_bad_session_request_names_its_field(string field, CreateSessionRequest request) =>
        Assert.Equal(field, Invalid(() => SessionValidation.Check(request, new SessionOptions())).Field);

    [Theory]
    [MemberData(nameof(BadExecutions), DisableDiscoveryEnumeration = true)]
    public void A_bad_execution_request_names_its_field(string field, ExecutionRequest request) =>
        Assert.Equal(field, Invalid(() => ExecutionValidation.Check(request)).Field);

    [Fact]
    public async Task Bad_input_to_a_running_system_changes_nothing()
    {
        await using var cluster = await SandboxTestCluster.StartAsync(silos: 1);
        var client = cluster.Client();
        var unknown = await Assert.ThrowsAsync<SandboxException>(() => client.CreateSessionAsync(new CreateSessionRequest { Template = "cobol" }));
        Assert.Equal("template", unknown.Field);
        Assert.Contains("python", unknown.Message, StringComparison.Ordinal);
        await FieldAsync("memoryMiB", () => client.CreateSessionAsync(new CreateSessionRequest { MemoryMiB = 1 }));
        await FieldAsync("idempotencyKey", () => client.CreateSessionAsync(idempotencyKey: "a key"));
        await FieldAsync("id", () => client.CreateSessionAsync(sessionId: "../../etc/passwd"));
        Assert.Empty(await client.ListSessionsAsync());

        var session = await client.StartSessionAsync();
        await FieldAsync("path", () => session.Files.StatAsync("a\0b"));
        await FieldAsync("path", () => session.Files.StatAsync(""));
        await FieldAsync("path", () => session.Files.StatAsync(new string('a', 4097)));
        await FieldAsync("depth", () => session.Files.ListAsync(new ListFilesRequest { Path = "/", Depth = 33 }));
        await FieldAsync("limit", () => session.ListExecutionsAsync(0));
        await FieldAsync("language", () => session.StartCodeAsync("1", "cobol"));
        var missing = await Assert.ThrowsAsync<SandboxException>(() => session.StartCommandAsync(["missing"]));
        Assert.Equal(SandboxErrorCode.NotFound, missing.Code);
        Assert.Empty(await session.ListExecutionsAsync());
        Assert.Equal(SandboxErrorCode.NotFound, (await Assert.ThrowsAsync<SandboxException>(() => session.GetExecutionAsync("exe_x"))).Code);
        Assert.Equal(SandboxErrorCode.NotFound, (await Assert.ThrowsAsync<SandboxException>(() => client.GetSession("../../x").GetAsync())).Code);
    }

    private static SandboxException Invalid(Action check)
    {
        var e = Assert.Throws<SandboxException>(check);
        Assert.Equal(SandboxErrorCode.InvalidArgument, e.Code);
        return e;
    }

    private static async Task FieldAsync(string field, Func<Task> call)
    {
        var e = await Assert.ThrowsAsync<SandboxException>(call);
        Assert.Equal(SandboxErrorCode.InvalidArgument, e.Code);
        Assert.Equal(field, e.Field);
    }
}
