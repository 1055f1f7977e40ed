using System.Net.Sockets;
using System.Text;
using Sandbox.Isolation.Backends;
using Sandbox.Isolation.Firecracker.Api;
using Sandbox.Isolation.Firecracker.Tests.Double;
using Sandbox.Isolation.Firecracker.Tests.Fixture;
using Xunit;

namespace Sandbox.Isolation.Firecracker.Tests;

/// <summary>The double itself: what it refuses, so that a driver that passes it has done things rightly; and how a refusal reaches the driver's caller.</summary>
public sealed class ApiDoubleTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("api-").FullName;
    private readonly CancellationTokenSource _stop = new();
    private readonly string _socket;
    private readonly string _kernel;
    private readonly string _disk;

    public ApiDoubleTests()
    {
        _socket = Path.Combine(_folder, "api");
        _kernel = Path.Combine(_folder, "kernel");
        _disk = Path.Combine(_folder, "disk");
        File.WriteAllBytes(_kernel, FakeImage.Kernel);
        File.WriteAllBytes(_disk, new byte[8 << 20]);
        var machine = new MachineDouble(new DoubleSetting(_folder), "one", userfault: -1);
        _ = new ApiServer(_socket, machine.HandleAsync).RunAsync(_stop.Token);
    }

    private static CancellationToken Ct => TestContext.Current.CancellationToken;

    [Theory]
    [InlineData("PUT /machine-config", """{"vcpu_count":1}""", "missing field `mem_size_mib`")]
    [InlineData("PUT /machine-config", """{"vcpu_count":1,"mem_size_mib":128,"colour":"red"}""", "unknown field `colour`")]
    [InlineData("PUT /machine-config", """{"vcpu_count":1,"vcpu_count":1,"mem_size_mib":128}""", "duplicate field `vcpu_count`")]
    [InlineData("PUT /machine-config", """{"vcpu_count":"1","mem_size_mib":128}""", "`vcpu_count` must be a whole number")]
    [InlineData("PUT /machine-config", """{"vcpu_count":33,"mem_size_mib":128}""", "`vcpu_count` must be a whole number")]
    [InlineData("PUT /machine-config", """{"vcpu_count":1.5,"mem_size_mib":128}""", "`vcpu_count` must be a whole number")]
    [InlineData("PUT /machine-config", """{"vcpu_count":3,"mem_size_mib":128,"smt":true}""", "1 or even")]
    [InlineData("PUT /machine-config", """{"vcpu_count":1,"mem_size_mib":128,"smt":null}""", "`smt` must be true or false")]
    [InlineData("PUT /machine-config", """{"vcpu_count":1,"mem_size_mib":128,"cpu_template":"T9"}""", "`cpu_template` must be one of")]
    [InlineData("PUT /machine-config", """{"vcpu_count":1,"mem_size_mib":129,"huge_pages":"2M"}""", "multiple of 2 MiB")]
    [InlineData("PUT /machine-config", "[]", "`body` must be an object")]
    [InlineData("PUT /machine-config", "{", "deserializing")]
    [InlineData("PUT /drives/a", """{"drive_id":"b","is_root_device":true,"is_read_only":true,"path_on_host":"DISK"}""", "does not match")]
    [InlineData("PUT /drives/a", """{"drive_id":"a","is_root_device":true,"path_on_host":"DISK"}""", "missing field `is_read_only`")]
    [InlineData("PUT /drives/a", """{"drive_id":"a","is_root_device":true,"is_read_only":true,"path_on_host":"/nowhere"}""", "No such file")]
    [InlineData("PUT /drives/a", """{"drive_id":"a","is_root_device":false,"socket":"s","is_read_only":true}""", "not for a vhost-user drive")]
    [InlineData("PUT /drives/a", """{"drive_id":"a","is_root_device":true,"is_read_only":true,"path_on_host":"DISK","rate_limiter":{"ops":{"size":1}}}""", "missing field `refill_time`")]
    [InlineData("PUT /drives/a", """{"drive_id":"a","is_root_device":true,"is_read_only":true,"path_on_host":"DISK","rate_limiter":{"ops":{"size":-1,"refill_time":1}}}""", "`size` must be a whole number")]
    [InlineData("PUT /boot-source", """{"boot_args":"x"}""", "missing field `kernel_image_path`")]
    [InlineData("PUT /boot-source", """{"kernel_image_path":"DISK"}""", "no ELF file")]
    [InlineData("PUT /vsock", """{"guest_cid":2,"uds_path":"v"}""", "`guest_cid` must be a whole number of at least 3")]
    [InlineData("PUT /vsock", """{"guest_cid":3}""", "missing field `uds_path`")]
    [InlineData("PUT /actions", """{"action_type":"Fly"}""", "`action_type` must be one of")]
    [InlineData("PUT /actions", """{"action_type":"InstanceStart"}""", "without kernel configuration")]
    [InlineData("PATCH /vm", """{"state":"Paused"}""", "before starting")]
    [InlineData("PATCH /vm", """{"state":"Asleep"}""", "`state` must be one of")]
    [InlineData("PUT /snapshot/create", """{"snapshot_path":"s","mem_file_path":"m"}""", "before starting")]
    [InlineData("PUT /snapshot/load", """{"snapshot_path":"s"}""", "exactly one of")]
    [InlineData("PUT /snapshot/load", """{"snapshot_path":"s","mem_file_path":"m","mem_backend":{"backend_type":"File","backend_path":"m"}}""", "exactly one of")]
    [InlineData("PUT /snapshot/load", """{"snapshot_path":"s","mem_backend":{"backend_type":"Tape","backend_path":"m"}}""", "`backend_type` must be one of")]
    [InlineData("PATCH /machine-configuration", "{}", "Invalid request method and/or path")]
    [InlineData("DELETE /vm", "{}", "Invalid request method")]
    [InlineData("PATCH /vsock", """{"guest_cid":3,"uds_path":"v"}""", "Invalid request method and/or path")]
    public async Task A_request_that_is_not_as_specified_is_refused(string call, string body, string said)
    {
        var (status, answer) = await SendAsync(call, body.Replace("DISK", _disk, StringComparison.Ordinal));
        Assert.Equal(400, status);
        Assert.Contains(said, answer, StringComparison.Ordinal);
        Assert.Contains("\"fault_message\"", answer, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Calls_out_of_order_are_refused()
    {
        await OkAsync("PUT /machine-config", """{"vcpu_count":1,"mem_size_mib":128}""");
        await RefusedAsync("PUT /snapshot/load", """{"snapshot_path":"s","mem_backend":{"backend_type":"File","backend_path":"m"}}""", "after configuring");
        await OkAsync("PUT /boot-source", $$"""{"kernel_image_path":"{{_kernel}}"}""");
        await OkAsync("PUT /drives/a", $$"""{"drive_id":"a","is_root_device":true,"is_read_only":false,"path_on_host":"{{_disk}}"}""");
        await RefusedAsync("PUT /drives/b", $$"""{"drive_id":"b","is_root_device":true,"is_read_only":false,"path_on_host":"{{_disk}}"}""", "root block device already");
        await OkAsync("PUT /actions", """{"action_type":"InstanceStart"}""");
        await RefusedAsync("PUT /actions", """{"action_type":"InstanceStart"}""", "after starting");
        await RefusedAsync("PUT /machine-config", """{"vcpu_count":1,"mem_size_mib":128}""", "after starting");
        await RefusedAsync("PUT /vsock", """{"guest_cid":3,"uds_path":"v"}""", "after starting");
        await RefusedAsync("PUT /snapshot/create", """{"snapshot_path":"s","mem_file_path":"m"}""", "not paused");
        await OkAsync("PATCH /vm", """{"state":"Paused"}""");
        await RefusedAsync("PATCH /vm", """{"state":"Paused"}""", "already");
        await RefusedAsync("PUT /snapshot/create", """{"snapshot_type":"Diff","snapshot_path":"s","mem_file_path":"m"}""", "dirty page tracking disabled");
        await OkAsync("PATCH /vm", """{"state":"Resumed"}""");
        await RefusedAsync("PATCH /vm", """{"state":"Resumed"}""", "already");
        Assert.Contains("\"state\":\"Running\"", (await SendAsync("GET /", null)).Answer, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_request_that_is_no_JSON_or_too_long_is_refused()
    {
        Assert.Contains("Content-Type", (await SendAsync("PUT /vm", "{}", "Content-Type: text/plain")).Answer, StringComparison.Ordinal);
        Assert.Contains("larger than the limit", (await SendAsync("PUT /vsock", new string(' ', 60_000))).Answer, StringComparison.Ordinal);
        Assert.Contains("Transfer-Encoding", (await SendAsync("PUT /vsock", "{}", "Content-Type: application/json\r\nTransfer-Encoding: chunked")).Answer, StringComparison.Ordinal);
    }

    [Fact]
    public async Task The_client_says_which_call_was_refused_and_why()
    {
        using var client = new FirecrackerClient(_socket);
        Assert.Equal("Not started", (await client.DescribeAsync(Ct)).State);
        var e = await Assert.ThrowsAsync<IsolationException>(() => client.PutVsockAsync(new Vsock(2, "v"), Ct));
        Assert.Equal("Firecracker refused PUT /vsock (400): An error occurred when deserializing the json body of a request: `guest_cid` must be a whole number of at least 3", e.Message);
    }

    [Theory]
    [InlineData("{\"fault_message\":\"bad\\u0007\\u001b[31m news\"}", "(400): bad[31m news")]
    [InlineData("<html>", "(400): <html>")]
    [InlineData("{\"fault_message\":7}", "(400): {\"fault_message\":7}")]
    [InlineData("", "(400): no reason given")]
    public async Task Whatever_the_answer_is_the_error_can_be_shown(string answer, string said)
    {
        var path = Path.Combine(_folder, "strange");
        _ = new RawServer(path, $"HTTP/1.1 400 \r\nContent-Length: {Encoding.UTF8.GetByteCount(answer)}\r\n\r\n{answer}").RunAsync(_stop.Token);
        using var client = new FirecrackerClient(path);
        Assert.EndsWith(said, (await Assert.ThrowsAsync<IsolationException>(() => client.PauseAsync(Ct))).Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("HTTP/1.1 200 \r\nContent-Length: 1000000000\r\n\r\n")]
    [InlineData("nonsense\r\n\r\n")]
    [InlineData("")]
    public async Task An_answer_that_is_none_or_without_end_is_an_error(string answer)
    {
        var path = Path.Combine(_folder, "strange");
        _ = new RawServer(path, answer).RunAsync(_stop.Token);
        using var client = new FirecrackerClient(path);
        Assert.Contains("did not answer GET /", (await Assert.ThrowsAsync<IsolationException>(() => client.DescribeAsync(Ct))).Message, StringComparison.Ordinal);
    }

    public void Dispose()
    {
        _stop.Cancel();
        _stop.Dispose();
        Directory.Delete(_folder, recursive: true);
    }

    private async Task OkAsync(string call, string body) => Assert.Equal((204, ""), await SendAsync(call, body));

    private async Task RefusedAsync(string call, string body, string said)
    {
        var (status, answer) = await SendAsync(call, body);
        Assert.Equal(400, status);
        Assert.Contains(said, answer, StringComparison.Ordinal);
    }

    private async Task<(int Status, string Answer)> SendAsync(string call, string? body, string headers = "Content-Type: application/json")
    {
        using var socket = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
        await socket.ConnectAsync(new UnixDomainSocketEndPoint(_socket), Ct);
        await using var stream = new NetworkStream(socket);
        var head = body is null ? $"{call} HTTP/1.1\r\n\r\n" : FormattableString.Invariant($"{call} HTTP/1.1\r\n{headers}\r\nContent-Length: {body.Length}\r\n\r\n{body}");
        await stream.WriteAsync(Encoding.ASCII.GetBytes(head), Ct);
        socket.Shutdown(SocketShutdown.Send);
        using var reader = new StreamReader(stream);
        var answer = await reader.ReadToEndAsync(Ct);
        return (int.Parse(answer.Split(' ')[1]), answer[(answer.IndexOf("\r\n\r\n", StringComparison.Ordinal) + 4)..]);
    }

    /// <summary>Answers everything with the same bytes, and hangs up.</summary>
    private sealed class RawServer(string path, string answer)
    {
        public async Task RunAsync(CancellationToken cancellationToken)
        {
            File.Delete(path);
            using var listener = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
            listener.Bind(new UnixDomainSocketEndPoint(path));
            listener.Listen(4);
            while (true)
            {
                using var socket = await listener.AcceptAsync(cancellationToken);
                await socket.ReceiveAsync(new byte[4096], cancellationToken);
                await socket.SendAsync(Encoding.UTF8.GetBytes(answer), cancellationToken);
            }
        }
    }
}
