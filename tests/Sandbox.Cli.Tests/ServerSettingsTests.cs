using System.Collections;
using Sandbox.Server;
using Xunit;

namespace Sandbox.Cli.Tests;

public sealed class ServerSettingsTests : IDisposable
{
    private readonly string _file = Path.GetTempFileName();

    public void Dispose() => File.Delete(_file);

    [Fact]
    public void The_command_line_wins_over_the_environment_and_that_over_the_file()
    {
        File.WriteAllText(_file, """{ "urls": ["http://127.0.0.1:1", "http://127.0.0.1:2"], "clusterId": "file", "hostId": "file", "memoryMiB": 100, /* a note */ "development": true }""");
        var environment = new Hashtable { ["SANDBOX_CLUSTER_ID"] = "environment", ["SANDBOX_HOST_ID"] = "environment", ["SANDBOX_MEMORY_MIB"] = "200" };

        var options = ServerSettings.Read(_file, environment, new Dictionary<string, string> { ["hostId"] = "flag" });

        Assert.Equal(["http://127.0.0.1:1", "http://127.0.0.1:2"], options.Urls);
        Assert.Equal(("environment", "flag", 200, true), (options.ClusterId, options.HostId, options.MemoryMiB, options.Gateway.Development));
    }

    [Theory]
    [InlineData("""{ "memory": 5 }""", "memory")]
    [InlineData("""{ "memoryMiB": "lots" }""", "memoryMiB")]
    [InlineData("""{ "siloPort": 70000 }""", "siloPort")]
    [InlineData("""{ "role": "boss" }""", "role")]
    [InlineData("""{ "role": "1" }""", "role")]
    [InlineData("""{ "development": "perhaps" }""", "development")]
    [InlineData("""{ "nullBackend": "perhaps" }""", "nullBackend")]
    [InlineData("[]", "JSON object")]
    [InlineData("{", "cannot be read")]
    public void A_wrong_file_is_named_with_what_is_wrong_in_it(string text, string expected)
    {
        File.WriteAllText(_file, text);

        var error = Assert.Throws<ServerException>(() => ServerSettings.Read(_file, new Hashtable(), new Dictionary<string, string>()));

        Assert.Contains(_file, error.Message, StringComparison.Ordinal);
        Assert.Contains(expected, error.Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("dataDirectory", "SANDBOX_DATA_DIRECTORY")]
    [InlineData("memoryMiB", "SANDBOX_MEMORY_MIB")]
    [InlineData("maxMicroVms", "SANDBOX_MAX_MICRO_VMS")]
    [InlineData("redis", "SANDBOX_REDIS")]
    [InlineData("nullBackend", "SANDBOX_NULL_BACKEND")]
    public void Environment_names_follow_the_settings(string setting, string expected) => Assert.Equal(expected, ServerSettings.EnvironmentName(setting));
}
