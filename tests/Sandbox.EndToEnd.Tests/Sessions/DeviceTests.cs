using System.Net;
using System.Text.Json.Nodes;
using Sandbox.EndToEnd.Tests.Harness;
using Sandbox.Isolation.TestSupport;
using Xunit;

namespace Sandbox.EndToEnd.Tests.Sessions;

/// <summary>Devices over HTTP, on a device tree of files whose only GPU the machine's administrator has given to vfio-pci: asked for, refused with reasons, and one session's alone when the server is killed in between.</summary>
public sealed class DeviceTests : IAsyncDisposable
{
    private const string Gpu = "0000:3b:00.0";
    private readonly FakeSysfs _sysfs = new();
    private readonly string _folder = Directory.CreateTempSubdirectory("sandbox-devices-").FullName;
    private readonly SandboxServer _server;

    public DeviceTests()
    {
        _sysfs.Add(Gpu, 0x10de, 0x2684, 0x030000, group: 12, driver: "vfio-pci");
        var config = Path.Combine(_folder, "server.json");
        File.WriteAllText(config, new JsonObject
        {
            ["nullBackend"] = true,
            ["nullDevices"] = true,
            ["backends"] = "",
            ["imageRoot"] = Path.Combine(_folder, "images"),
            ["hostId"] = "host-a",
            ["warmPool"] = 0,
            ["deviceSysfs"] = _sysfs.Root,
            ["deviceLeases"] = Path.Combine(_folder, "leases"),
        }.ToJsonString());
        _server = SandboxServer.PrepareWith("", "--config", config);
    }

    [Fact]
    public async Task Whoever_asks_gets_it_or_hears_where_was_looked_and_a_killed_server_gives_it_to_nobody_else()
    {
        await _server.RestartAsync();
        var session = SandboxApi.Text(await _server.Api.CreateSessionAsync(Wanting("10de:2684")), "id");
        Assert.Equal("leased", SandboxApi.Text(await DeviceAsync(), "state"));

        var busy = await RefusalAsync(HttpStatusCode.TooManyRequests, Wanting("gpu"));
        Assert.Equal("No GPU is free. Looked at: host-a (has 1: 0 free, 1 leased, 0 to be reset).", SandboxApi.Text(busy, "detail"));
        var never = await RefusalAsync(HttpStatusCode.UnprocessableEntity, Wanting("npu"));
        Assert.Equal("No NPU is free. Looked at: host-a (has none).", SandboxApi.Text(never, "detail"));
        Assert.Equal("needs.devices", SandboxApi.Text(await RefusalAsync(HttpStatusCode.BadRequest, Wanting("toaster")), "field"));
        var program = await CommandLine.RunAsync(new Dictionary<string, string>(), _folder, "session", "create", "--server", _server.Url.ToString(), "--template", "null", "--trusted", "--device", "gpux2");
        Assert.Contains("No set of 2 GPU is free. Looked at: host-a", program.Stderr, StringComparison.Ordinal);
        var pause = await _server.Api.PostAsync($"/v1/sessions/{session}/pause", null, HttpStatusCode.UnprocessableEntity);
        Assert.Contains("it has devices of its host", SandboxApi.Text(pause, "detail"), StringComparison.Ordinal);

        await _server.KillAsync();
        Assert.Contains(session, await File.ReadAllTextAsync(Lease, TestContext.Current.CancellationToken), StringComparison.Ordinal);
        Assert.Equal("", await File.ReadAllTextAsync(_sysfs.PathOf($"bus/pci/devices/{Gpu}/reset"), TestContext.Current.CancellationToken));
        await _server.RestartAsync();

        // Its session wants it again, and gets it once the device has forgotten what the dead machine left; a stranger may have it before that, and not at the same time.
        Assert.Equal(0, (await _server.Api.RunAsync(session, new() { ["argv"] = new JsonArray("echo", "again") })).ExitCode);
        Assert.Equal("1", await File.ReadAllTextAsync(_sysfs.PathOf($"bus/pci/devices/{Gpu}/reset"), TestContext.Current.CancellationToken));
        var lease = JsonNode.Parse(await File.ReadAllTextAsync(Lease, TestContext.Current.CancellationToken))!["Owner"]!;
        Assert.Equal((session, (await _server.Api.GetAsync($"/v1/sessions/{session}"))["generation"]!.GetValue<long>()), (SandboxApi.Text(lease, "SessionId"), lease["Generation"]!.GetValue<long>()));
        await RefusalAsync(HttpStatusCode.TooManyRequests, Wanting("gpu"));

        await _server.Api.DeleteSessionAsync(session);
        await _server.Api.UntilHostsAsync(hosts => SandboxApi.Text(hosts[0]!["devices"]![0]!, "state") == "free", TimeSpan.FromMinutes(1));
        await _server.Api.CreateSessionAsync(Wanting("gpu"));
    }

    public async ValueTask DisposeAsync()
    {
        await _server.DisposeAsync();
        _sysfs.Dispose();
        Directory.Delete(_folder, recursive: true);
    }

    private string Lease => Path.Combine(_folder, "leases", Gpu + ".json");

    private async Task<JsonNode> DeviceAsync() => (await _server.Api.GetAsync("/v1/hosts"))["hosts"]![0]!["devices"]![0]!;

    private Task<JsonNode> RefusalAsync(HttpStatusCode status, JsonObject body) => _server.Api.PostAsync("/v1/sessions?wait=60", body, status);

    private static JsonObject Wanting(string kind) => new()
    {
        ["template"] = "null",
        ["untrusted"] = false,
        ["idleTimeoutSeconds"] = 3600,
        ["needs"] = new JsonObject { ["devices"] = new JsonArray(new JsonObject { ["kind"] = kind }) },
    };
}
